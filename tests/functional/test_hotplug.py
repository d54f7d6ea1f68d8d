# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Devices come and go under a Linux guest, which may be stuck.

Storms: four devices at a time, again and again, while a disk is under load, a
device of its own does DMA that is refused, and one of the four is cut off.
"""

import base64
import time

from qemu.qmp.qmp_client import ExecuteError

from nyxtest.case import GuestTest, needs_nyx
from nyxtest.devices import CONTROLLERS, NICS, add_disk, medium
from nyxtest.guest import (block_device, disk_load, disk_sum, find_class,
                           pci_address, sha256)

MIB = 1 << 20
KINDS = ('nvme', 'virtio-blk-pci', 'e1000e', 'virtio-net-pci')
# A guest by TCG on a busy host; that it ends at all is what matters.
SECONDS = 60
TIMEOUT_MS = 3000

PCI_CAPABILITIES = 0x34
PCI_CAP_ID_EXP = 0x10
SLOT_CONTROL = 0x18
POWER_OFF = 0x0700          # power controller, and both bits of its indicator


class _HotplugTest(GuestTest):
    """A port for each kind of device, and what is behind these devices."""

    port = 'nyx-root-port'
    native = True

    @classmethod
    def describe(cls, vm):
        vm.machine_options.append(f'unplug-timeout-ms={TIMEOUT_MS}')
        if cls.native:
            vm.add('-global',
                   'ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off')
        for number, kind in enumerate(KINDS):
            vm.device(cls.port, id=f'port{number}', chassis=number + 1,
                      slot=number + 1)
            if kind in NICS:
                vm.add('-netdev', f'hubport,id={kind}-net,hubid={number}',
                       modules=NICS[kind])
            else:
                vm.add(modules=CONTROLLERS[kind][0])
        cls.media = {kind: medium(vm, f'{kind}-medium', 2)
                     for kind in KINDS if kind not in NICS}

    def patiently(self, command, **arguments):
        """A command that is refused as long as something is still in use."""
        limit = time.monotonic() + SECONDS
        while True:
            try:
                self.vm.monitor.command(command, **arguments)
                return
            except ExecuteError:
                if time.monotonic() > limit:
                    raise
                time.sleep(0.1)

    def plug(self, kind):
        """Plug a device of this kind; its name is that of the kind."""
        backend = {'netdev': f'{kind}-net', 'romfile': ''} if kind in NICS \
            else {'drive': f'{kind}-medium', 'serial': 'plugged'}
        self.patiently('device_add', driver=kind, id=kind,
                       bus=f'port{KINDS.index(kind)}', **backend)

    def await_driver(self, kind):
        """Wait until the guest's driver works with the device."""
        if kind in NICS:
            find_class(self.vm, 'net', kind)
        else:
            device = block_device(self.vm, kind)
            self.assertEqual(disk_sum(self.vm, device, 1, 1),
                             sha256(self.media[kind].read_bytes()[MIB:]))

    def steps(self, kind, since):
        return [event['data']['step'] for event in
                self.vm.monitor.seen('NYX_DEVICE_UNPLUG', since, device=kind)]

    def await_gone(self, kind, since):
        """Wait until a device is gone; return how it went."""
        self.vm.monitor.wait_event('DEVICE_DELETED', since, SECONDS,
                                   device=kind)
        steps = self.steps(kind, since)
        self.assertEqual((steps[0], steps[-1]), ('requested', 'removed'),
                         steps)
        return steps[-2]

    def count(self):
        """What must not grow: functions behind the IOMMU, domains."""
        info = self.vm.monitor.command('query-nyx-iommu')
        return info['devices'], info['domains']

    def force_out(self, kind):
        """Have a quarantined device go; return how long that took, in s."""
        monitor = self.vm.monitor
        monitor.command('nyx-quarantine-device', device=kind)
        since = monitor.position()
        began = time.monotonic()
        monitor.command('device_del', id=kind)
        self.assertEqual(self.await_gone(kind, since), 'forced')
        return time.monotonic() - began

    def await_guest_forgets(self, address):
        self.vm.agent.wait(f'[ ! -e /sys/bus/pci/devices/{address} ]',
                           SECONDS)


class _StormTest(_HotplugTest):
    rounds = 8
    # Linux's e1000e does so if it goes while it is told of an error.
    allowed_trouble = ('already-disabled device',)

    @classmethod
    def describe(cls, vm):
        super().describe(vm)
        add_disk(vm, 'nvme', 'steady')
        vm.domain('cage', default_map='none', on_fault_limit='report')
        vm.device('nyx-testdev', (), 'cage', id='rogue')

    @classmethod
    def prepare(cls, vm):
        cls.load = disk_load(vm, 'steady', block_device(vm, 'steady'), 16, 8)
        rogue = pci_address(vm, 'rogue')
        vm.agent.check(f'while :; do nyx-dma {rogue} write 0x1000000 64; '
                       'usleep 50000; done >/dev/null 2>&1 &')

    def one_round(self, victim):
        monitor = self.vm.monitor
        for kind in KINDS:
            self.plug(kind)
        for kind in KINDS:
            self.await_driver(kind)
        since = monitor.position()
        monitor.command('nyx-quarantine-device', device=victim)
        for kind in KINDS:
            self.patiently('device_del', id=kind)
        for kind in KINDS:
            how = self.await_gone(kind, since)
            # An operational device is never taken from the guest.
            self.assertIn(how, ('let-go', 'forced') if kind == victim
                          else ('let-go',), kind)
        self.load.wait_bytes(MIB)

    def test_storm(self):
        faults = self.nyx_device('rogue')['total-faults']
        before = self.count()
        for number in range(self.rounds):
            self.one_round(KINDS[number % len(KINDS)])
            self.assertEqual(self.count(), before)
        self.assertGreater(self.nyx_device('rogue')['total-faults'], faults)
        progress = self.load.progress()
        self.assertEqual((progress.mismatches, progress.errors), (0, 0))


@needs_nyx
class NativeStormTest(_StormTest):
    pass


@needs_nyx
class AcpiStormTest(_StormTest):
    native = False
    rounds = 16


@needs_nyx
class PlainPortStormTest(_StormTest):
    """The same on QEMU's own root ports."""

    port = 'pcie-root-port'
    rounds = 4


class _StuckTest(_HotplugTest):
    """The guest does not answer, and a device that is cut off goes anyway."""

    def slot_control(self, port):
        """PCIe Base 6.0, 7.5.3.10, of a port, as the guest reads it."""
        address = pci_address(self.vm, port)
        config = base64.b64decode(self.vm.agent.check(
            f'base64 -w0 </sys/bus/pci/devices/{address}/config'))
        capability = config[PCI_CAPABILITIES]
        while config[capability] != PCI_CAP_ID_EXP:
            capability = config[capability + 1]
        return int.from_bytes(config[capability + SLOT_CONTROL:][:2],
                              'little')

    def await_slot_off(self, port):
        """Wait until the power, and last of all its indicator, are off."""
        limit = time.monotonic() + SECONDS
        while self.slot_control(port) & POWER_OFF != POWER_OFF:
            self.assertLess(time.monotonic(), limit, f'{port} stays on')
            time.sleep(0.1)

    def check_stopped(self, kind):
        """Taken out while the VM is stopped, which the guest then notices."""
        self.plug(kind)
        self.await_driver(kind)
        address = pci_address(self.vm, kind)
        self.vm.monitor.command('stop')
        self.assertGreaterEqual(self.force_out(kind), TIMEOUT_MS / 1000)
        self.vm.monitor.command('cont')
        self.await_guest_forgets(address)
        if self.native:
            # Linux turns off what is empty, and whatever is there by then.
            self.await_slot_off(f'port{KINDS.index(kind)}')
        self.plug(kind)
        self.await_driver(kind)

    def test_nvme(self):
        self.check_stopped('nvme')

    def test_virtio_net(self):
        self.check_stopped('virtio-net-pci')

    def test_operational_stays(self):
        """Until it misbehaves, however long the guest is stuck."""
        monitor = self.vm.monitor
        self.plug('virtio-blk-pci')
        self.await_driver('virtio-blk-pci')
        address = pci_address(self.vm, 'virtio-blk-pci')
        monitor.command('stop')
        since = monitor.position()
        monitor.command('device_del', id='virtio-blk-pci')
        monitor.wait_event('NYX_DEVICE_UNPLUG', since, SECONDS,
                           device='virtio-blk-pci', step='waiting')
        self.assert_state('virtio-blk-pci', 'operational')
        monitor.command('nyx-quarantine-device', device='virtio-blk-pci')
        self.assertEqual(self.await_gone('virtio-blk-pci', since), 'forced')
        monitor.command('cont')
        self.await_guest_forgets(address)


@needs_nyx
class NativeStuckTest(_StuckTest):
    pass


@needs_nyx
class AcpiStuckTest(_StuckTest):
    native = False


@needs_nyx
class DeafGuestTest(_HotplugTest):
    """A guest that runs, but has no driver for its ports."""

    @classmethod
    def describe(cls, vm):
        super().describe(vm)
        vm.kernel_arguments.append('pcie_ports=compat')
        vm.device('nvme', id='cold', serial='cold', bus='port0',
                  drive='nvme-medium')

    def test_boot_device(self):
        """One that was there at boot, and then another in its place."""
        self.force_out('cold')
        self.plug('nvme')
        self.assert_state('nvme', 'operational')
        self.force_out('nvme')
        self.assertEqual(self.vm.agent.check('echo alive'), 'alive')
