# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A Linux guest sleeps (S3), hibernates (S4), switches off (S5), comes back."""

from .case import GuestTest
from .devices import add_disk, add_nic
from .guest import (block_device, bring_up, disk_sum, fetch_sum, pci_address,
                    sha256, write_random)

SECONDS = 300               # for what takes a few on a quiet machine
CUT_OFF = 'nic0'            # quarantined before, and still afterwards
WINDOW = 0x10000000         # what the caged device may touch, and nothing else
PAGE = 4096
MIB = 1 << 20


def sleep(vm):
    """Send the guest to S3; for wake()."""
    since = vm.monitor.position()
    number = vm.agent.begin('echo mem >/sys/power/state')
    vm.monitor.wait_event('SUSPEND', since, SECONDS)
    return since, number


def wake(vm, slept):
    """Wake it, and wait until its drivers have their devices back."""
    since, number = slept
    vm.monitor.command('system_wakeup')
    vm.monitor.wait_event('WAKEUP', since, SECONDS)
    # What the guest's serial port says before that is lost.
    result = vm.agent.finish(number, 'sleep', SECONDS)
    assert result.status == 0, result


def stay_off(vm):
    """QEMU waits after the guest's power is off, as with -no-shutdown."""
    vm.monitor.command('set-action', shutdown='pause', reboot='reset')


def wait_off(vm, since):
    """Wait until the guest's power is off; why."""
    reason = vm.monitor.wait_event('SHUTDOWN', since, SECONDS)['data']
    vm.monitor.wait_event('STOP', since, SECONDS)
    return reason


def switch_on(vm):
    """Power comes back, and the guest boots."""
    since = vm.monitor.position()
    vm.monitor.command('system_reset')
    vm.monitor.wait_event('RESET', since, SECONDS)
    vm.monitor.command('cont')
    vm.agent.wait_ready(SECONDS)


class PowerTest(GuestTest):
    """Devices whose state with nyx-iommu must last while the guest sleeps."""

    memory = '256M'

    @classmethod
    def describe(cls, vm):
        super().describe(vm)
        vm.domain('disks', isolation='shared')
        vm.domain('cage', default_map='none', on_fault_limit='report')
        vm.add('-object', 'iothread,id=io0')
        cls.disks = {
            'nvme0': add_disk(vm, 'nvme', 'nvme0', 'disks'),
            'vblk0': add_disk(vm, 'virtio-blk-pci', 'vblk0', 'disks',
                              iothread='io0')}
        cls.nic = add_nic(vm, 'e1000e', CUT_OFF)
        vm.device('nyx-testdev', domain='cage', id='caged')

    @classmethod
    def prepare(cls, vm):
        vm.monitor.command('nyx-map', domain='cage', iova=WINDOW,
                           gpa=WINDOW // 2, size=PAGE, access='rw')
        bring_up(vm, cls.nic, SECONDS)
        vm.agent.check(f'ip link set {cls.nic_name(vm)} down')
        vm.monitor.command('nyx-quarantine-device', device=CUT_OFF)

    @classmethod
    def nic_name(cls, vm):
        return vm.agent.check(
            f'ls /sys/bus/pci/devices/{pci_address(vm, CUT_OFF)}/net')

    def lasting(self):
        """All of nyx-iommu that must be the same before and afterwards."""
        devices = self.vm.monitor.command('query-nyx-devices')
        for device in devices:
            del device['interrupts'], device['io-under-way']
        domains = self.vm.monitor.command('query-nyx-domains')
        for domain in domains:
            if domain['id'] != 'cage':
                # Below 1 MiB firmware makes some of it read-only, or not.
                domain['mapped-bytes'] //= 4 * MIB
                del domain['mappings'], domain['table-bytes']
        return devices, domains

    def assert_lasted(self, before, since):
        """Nothing has changed, and nothing was different for a while."""
        self.assertEqual(self.lasting(), before)
        self.assertEqual(self.nyx_device(CUT_OFF)['state'], 'quarantined')
        self.assertEqual(self.vm.monitor.seen('NYX_DEVICE_STATE', since), [])
        self.assert_no_faults()

    def assert_disks_work(self):
        for name, disk in self.disks.items():
            device = block_device(self.vm, name, SECONDS)
            self.assertEqual(disk_sum(self.vm, device, 0, 4, SECONDS),
                             sha256(disk.read(0, 4)), name)
            self.assertEqual(write_random(self.vm, device, 16, 4, SECONDS),
                             sha256(disk.read(16, 4)), name)

    def assert_confined(self):
        """The caged device reaches its window and nothing else."""
        address = pci_address(self.vm, 'caged')
        run = self.vm.agent.run
        self.assertEqual(run(f'nyx-dma {address} read {WINDOW} 64').status, 0)
        before = self.nyx_device('caged')['faults-by-type']['unmapped']
        self.assertEqual(
            run(f'nyx-dma {address} read {WINDOW + PAGE} 64').status, 3)
        self.assertEqual(
            self.nyx_device('caged')['faults-by-type']['unmapped'], before + 1)

    def assert_recovers(self):
        """The operator gives the card back, and the guest has it again."""
        self.vm.monitor.command('nyx-recover-device', device=CUT_OFF)
        self.assert_state(CUT_OFF, 'operational')
        address = pci_address(self.vm, CUT_OFF)
        drivers = '/sys/bus/pci/drivers/e1000e'
        self.vm.agent.check(
            f'[ ! -e {drivers}/{address} ] || echo {address} >{drivers}/unbind;'
            f' echo {address} >{drivers}/bind', SECONDS)
        bring_up(self.vm, self.nic, SECONDS)
        self.assertEqual(
            fetch_sum(self.vm, self.server.url(self.nic), SECONDS),
            self.server.sha256)
