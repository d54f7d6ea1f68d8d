# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""64 vCPUs; CPUs and memory that come and go while the guest runs.

More vCPUs than 255 are in test_stage1_cpus, nodes of NUMA in
test_nyx_run_room, the pinning of nyx run in test_nyx_run.
"""

import os
import re

from nyxtest.case import GuestTest, has_nyx, needs_nyx
from nyxtest.devices import add_disk
from nyxtest.guest import (REFUSED_CPU, block_device, disk_load, disk_sum,
                           pci_address, sha256)
from nyxtest.stage1 import Stage1Test

SECONDS = 300
MIB = 1 << 20
ALL_CPUS = 64
CPUS = '/sys/devices/system/cpu'
MEMORY = '/sys/devices/system/memory'
MODULE = 256 * MIB
EJECT = 3                   # by a request of the firmware
BLOCK = 128 * MIB           # what Linux switches on and off at once
# No CPU measures its clock by itself; none is missed when the host has no time
# for it.
KERNEL_ARGUMENTS = ('lpj=3000000 tsc=reliable nowatchdog '
                    'rcupdate.rcu_expedited=1 '
                    'rcupdate.rcu_cpu_stall_suppress=1')


class SixtyFourCpusTest(GuestTest):
    cpus = f'{ALL_CPUS},sockets=2,cores=32,threads=1'
    boot_limit = 500

    @classmethod
    def describe(cls, vm):
        vm.kernel_arguments.append(KERNEL_ARGUMENTS)
        cls.disk = add_disk(vm, 'nvme', 'disk0')

    def test_1_all_run(self):
        """Each of them runs a program, and has had its timer's interrupts."""
        self.assertEqual(self.vm.agent.check('nproc'), str(ALL_CPUS))
        said = self.vm.agent.check(
            f'for c in $(seq 0 {ALL_CPUS - 1}); do taskset -c $c '
            "awk '{ print $39 }' /proc/self/stat; done", SECONDS)
        self.assertEqual(said.split(), [str(cpu) for cpu in range(ALL_CPUS)])
        timers = self.vm.agent.check("grep LOC: /proc/interrupts").split()
        self.assertTrue(all(map(int, timers[1:ALL_CPUS + 1])), timers)
        vcpus = self.vm.monitor.command('query-cpus-fast')
        self.assertEqual(len({vcpu['thread-id'] for vcpu in vcpus}), ALL_CPUS)

    def test_2_topology(self):
        path = f'{CPUS}/cpu{ALL_CPUS - 1}/topology'
        self.assertEqual(
            self.vm.agent.check(f'cd {path}; cat physical_package_id core_id '
                                'core_siblings_list').split(),
            ['1', '31', '32-63'])

    def test_3_interrupts(self):
        """A disk with a queue for each CPU interrupts the one that asked."""
        device = block_device(self.vm, 'disk0', SECONDS)
        for cpu in (0, ALL_CPUS // 2, ALL_CPUS - 1):
            before = self.queue_interrupts(cpu)
            self.vm.agent.check(f'taskset -c {cpu} dd if={device} of=/dev/null '
                                'bs=64k count=4 iflag=direct 2>/dev/null',
                                SECONDS)
            self.assertGreater(self.queue_interrupts(cpu), before, cpu)
        self.assertEqual(disk_sum(self.vm, device, 0, 4, SECONDS),
                         sha256(self.disk.read(0, 4)))
        self.assert_no_faults()

    def queue_interrupts(self, cpu):
        """How often the disk's queues have interrupted this CPU."""
        rows = self.vm.agent.check('grep nvme0q /proc/interrupts').splitlines()
        return sum(int(row.split()[1 + cpu]) for row in rows)

    def test_4_idle(self):
        """The operator sees all of them, and none is stuck."""
        if not has_nyx():
            self.skipTest('the machine does not look after its vCPUs')
        vcpus = self.vm.monitor.command('query-nyx-vcpus')
        self.assertEqual(sorted(vcpu['vcpu'] for vcpu in vcpus),
                         list(range(ALL_CPUS)))
        self.assertEqual(self.vm.monitor.seen('NYX_VCPU_STUCK'), [])


class _GrowTest(GuestTest):
    """Room for two more CPUs, and for more memory."""

    cpus = '2,maxcpus=4,sockets=4,cores=1,threads=1'
    memory = '512M,slots=2,maxmem=2G'

    @classmethod
    def describe(cls, vm):
        super().describe(vm)
        vm.domain('disks', isolation='shared')
        vm.domain('cage', isolation='shared', default_map='none')
        vm.add('-object', 'iothread,id=io0')
        add_disk(vm, 'nvme', 'nvme0', 'disks')
        add_disk(vm, 'virtio-blk-pci', 'vblk0', iothread='io0')
        vm.device('nyx-testdev', domain='cage', id='caged')
        vm.device('nyx-testdev', domain='disks', id='rogue')

    @classmethod
    def prepare(cls, vm):
        # What comes is for programs first, and can be taken away again.
        vm.agent.check(f'echo online_movable >{MEMORY}/auto_online_blocks')

    # Processors

    def test_1_add_cpus(self):
        vm = self.vm
        free = [slot for slot in vm.monitor.command('query-hotpluggable-cpus')
                if 'qom-path' not in slot]
        self.assertEqual(len(free), 2)
        # Linux numbers them as they come.
        for slot in sorted(free, key=lambda slot: slot['props']['socket-id']):
            cpu = slot['props']['socket-id']
            vm.monitor.command('device_add', driver=slot['type'],
                               id=f'cpu{cpu}', **slot['props'])
            vm.agent.wait(f'[ -e {CPUS}/cpu{cpu}/online ] || {REFUSED_CPU}',
                          SECONDS)
            self.skip_if_refused()
            vm.agent.check(f'[ $(cat {CPUS}/cpu{cpu}/online) = 1 ] || '
                           f'echo 1 >{CPUS}/cpu{cpu}/online', SECONDS)
            self.assertEqual(
                vm.agent.check(f'taskset -c {cpu} '
                               "awk '{ print $39 }' /proc/self/stat"), str(cpu))
        self.assertEqual(vm.agent.check('nproc'), '4')
        self.assertEqual(len(vm.monitor.command('query-nyx-vcpus')), 4)

    def skip_if_refused(self):
        if self.vm.agent.run(REFUSED_CPU).status == 0:
            self.skipTest('this kernel refuses CPUs that are added')

    def test_2_affinity(self):
        """Threads of vCPUs and iothreads run where the operator wants."""
        vm = self.vm
        vcpus = {vcpu['cpu-index']: vcpu['thread-id']
                 for vcpu in vm.monitor.command('query-cpus-fast')}
        if len(set(vcpus.values())) < 2:
            self.skipTest('all vCPUs are in one thread')
        iothread = vm.monitor.command('query-iothreads')[0]['thread-id']
        places = sorted(os.sched_getaffinity(0))
        running = int(vm.agent.check('nproc'))
        threads = [vcpus[index] for index in range(running)] + [iothread]
        for number, thread in enumerate(threads):
            os.sched_setaffinity(thread, {places[number % len(places)]})
        load = disk_load(vm, 'vblk0', block_device(vm, 'vblk0', SECONDS), 16, 4)
        vm.agent.check('for c in $(seq 0 $(($(nproc) - 1))); do taskset -c $c sh -c "i=0; while '
                       '[ \\$i -lt 2000 ]; do i=\\$((i + 1)); done"; done',
                       SECONDS)
        load.wait_bytes(MIB, SECONDS)
        for number, thread in enumerate(threads):
            self.assertEqual(last_cpu(thread), places[number % len(places)])
        load.stop()
        for thread in threads:
            os.sched_setaffinity(thread, places)

    def test_3_remove_cpu(self):
        self.skip_if_refused()
        since = self.vm.monitor.position()
        self.vm.monitor.command('device_del', id='cpu3')
        # QEMU 11.1 has no DEVICE_DELETED for processors.
        self.vm.monitor.wait_event('ACPI_DEVICE_OST', since, SECONDS, info={
            'slot': '3', 'slot-type': 'CPU', 'source': EJECT, 'status': 0})
        self.assertEqual(self.vm.agent.check('nproc'), '3')
        self.assertEqual(len(self.vm.monitor.command('query-nyx-vcpus')), 3)

    # Memory

    def mapped(self):
        """Domain -> bytes that it maps."""
        return {domain['id']: domain['mapped-bytes'] for domain in
                self.vm.monitor.command('query-nyx-domains')}

    def total(self):
        return int(self.vm.agent.check(
            "awk '/MemTotal/ { print $2 }' /proc/meminfo")) << 10

    def dma(self, name, address):
        """Whether a DMA of a device without a driver goes through."""
        status = self.vm.agent.run(f'nyx-dma {pci_address(self.vm, name)} read '
                                   f'{address} 64').status
        self.assertIn(status, (0, 3))
        return status == 0

    def test_4_add_memory(self):
        """Domains that map all memory have it, and devices use it."""
        vm = self.vm
        before, total = self.mapped(), self.total()
        vm.monitor.command('object-add', **{'qom-type': 'memory-backend-ram',
                                            'id': 'more', 'size': MODULE})
        vm.monitor.command('device_add', driver='pc-dimm', id='module',
                           memdev='more')
        vm.agent.wait(f"[ $(awk '/MemTotal/ {{ print $2 }}' /proc/meminfo) -ge "
                      f'{(total + MODULE * 9 // 10) >> 10} ]', SECONDS)
        self.assertEqual(self.mapped(), {
            name: size + (MODULE if size else 0)
            for name, size in before.items()})
        self.assertEqual(before['cage'], 0)
        for name in 'nvme0', 'vblk0':
            load = disk_load(vm, name, block_device(vm, name, SECONDS), 32, 4)
            load.wait_bytes(2 * MIB, SECONDS)
            where = vm.agent.check(f'cat /run/load/{name}.log')
            self.assertGreaterEqual(int(where.split()[1], 16), self.address(),
                                    'the buffer is not in that memory')
            progress = load.progress()
            self.assertEqual((progress.mismatches, progress.errors), (0, 0))
            load.stop()
        self.assert_no_faults()

    def address(self):
        """Where the module is."""
        return self.vm.monitor.command('query-memory-devices')[0]['data'][
            'addr']

    def test_5_confined(self):
        """A domain that maps nothing has none of it."""
        self.assertFalse(self.dma('caged', self.address()))

    def test_6_remove_memory(self):
        """It is no device's any more before it is gone."""
        vm = self.vm
        at, since = self.address(), vm.monitor.position()
        before = self.mapped()
        # A page may be in use for a moment; the guest would then keep it all.
        blocks = [f'{MEMORY}/memory{start // BLOCK}/state' for start in
                  range(at, at + MODULE, BLOCK)]
        vm.agent.wait(f'for s in {" ".join(blocks)}; do '
                      'echo offline >$s; done 2>/dev/null; '
                      f'! grep -q online {" ".join(blocks)}', SECONDS)
        vm.monitor.command('device_del', id='module')
        vm.monitor.wait_event('DEVICE_DELETED', since, SECONDS,
                              device='module')
        self.assertEqual(self.mapped(), {
            name: size - (MODULE if size else 0)
            for name, size in before.items()})
        self.assertFalse(self.dma('rogue', at))
        vm.monitor.command('object-del', id='more')


def last_cpu(thread):
    """The host's CPU on which a thread ran last."""
    with open(f'/proc/{thread}/stat', encoding='ascii') as file:
        return int(re.sub(r'.*\) ', '', file.read()).split()[36])


@needs_nyx
class GrowTest(_GrowTest):
    """stage1=none"""

    def test_4_dma(self):
        """A device that does as it likes reaches it as well."""
        self.assertTrue(self.dma('rogue', self.address()))


class IntelGrowTest(_GrowTest, Stage1Test):
    kind = 'intel'
