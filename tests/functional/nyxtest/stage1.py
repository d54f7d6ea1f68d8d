# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The IOMMU that the guest sees: how to have it, and what Linux says of it."""

import re
from dataclasses import dataclass

from .case import GuestTest, needs_nyx
from .errors import GuestTimeout
from .guest import pci_address

GROUPS = '/sys/kernel/iommu_groups'
# What Linux's drivers say of any access that their IOMMU refused.
ANY_FAULT = re.compile(r'DMAR: \[|DMAR: DRHD: handling fault'
                       r'|AMD-Vi: .*(Event logged|overflow)'
                       r'|virtio_iommu .* fault from')


@dataclass(frozen=True)
class Model:
    """What differs from one IOMMU to another for a Linux guest."""
    kernel_arguments: str
    device: str         # name in /sys/class/iommu
    fault: str          # in the guest's log, as regular expression
    remapping: str      # of interrupts, in the guest's log; '': has none
    modules: tuple = ()
    rare_module: str = None


MODELS = {
    'intel': Model(
        'intel_iommu=on', r'dmar\d+',
        r'DMAR: \[DMA {direction} NO_PASID\] Request device \[{short}\] '
        r'fault addr {address:#x} ',
        'DMAR-IR: Enabled IRQ remapping in x2apic mode'),
    'amd': Model(
        '', r'ivhd\d+',
        r'{bdf}.*IO_PAGE_FAULT .*address={address:#x} ',
        'AMD-Vi: Interrupt remapping enabled'),
    # Loaded first, as no driver finds its device before.
    'virtio': Model(
        '', r'0000:00:17\.0',
        r'page fault from EP {endpoint} at {address:#x} ', '',
        ('virtio_pci', 'virtio_iommu'), 'virtio_iommu'),
}


def add_stage1(vm, kind, *arguments, **properties):
    """Give a VM this stage 1, and its kernel these arguments."""
    vm.machine_options += [f'stage1={kind}'] + [
        f'stage1.{key.replace("_", "-")}={value}'
        for key, value in properties.items()]
    vm.kernel_arguments += [MODELS[kind].kernel_arguments, *arguments]
    vm.add(modules=MODELS[kind].modules)


def iommu_groups(vm):
    """Group number -> (type of its domain, PCI addresses in it)."""
    lines = vm.agent.check(
        f'for g in {GROUPS}/*; do [ -d $g ] && '
        'echo ${g##*/} $(cat $g/type) $(ls $g/devices); done').splitlines()
    groups = {}
    for line in lines:
        number, kind, *addresses = line.split()
        groups[int(number)] = kind, addresses
    return groups


def group_of(vm, name):
    """(type of the domain, PCI addresses) of the group a device is in."""
    address = pci_address(vm, name)
    found = [group for group in iommu_groups(vm).values()
             if address in group[1]]
    return found[0] if found else (None, [])


def bind(vm, name, driver):
    """Have a driver of the guest take a PCI function, which none has."""
    address = pci_address(vm, name)
    path = f'/sys/bus/pci/devices/{address}'
    vm.agent.check(f'echo {driver} >{path}/driver_override && '
                   f'echo {address} >/sys/bus/pci/drivers_probe && '
                   f'[ -d /sys/bus/pci/drivers/{driver}/{address} ]')
    return address


def fault_text(kind, requester, direction, address):
    """How Linux words it that a function's access was refused."""
    bus, slot, function = (int(word, 16) for word in
                           re.split('[:.]', requester)[1:])
    return MODELS[kind].fault.format(
        bdf=requester, short=requester.split(':', 1)[1],
        endpoint=bus << 8 | slot << 3 | function, direction=direction,
        address=address)


def wait_logged(vm, kind, requester, direction, address):
    """Wait until the guest's kernel tells of a refused access.

    direction is 'Read' or 'Write'; not all models tell it.
    """
    text = fault_text(kind, requester, direction, address)
    try:
        vm.agent.wait(f"dmesg | grep -q '{text}'")
    except GuestTimeout as err:
        raise GuestTimeout(f'the guest said nothing like "{text}" within '
                           '30 s.') from err


def logged_faults(vm):
    """What the guest's kernel said of refused accesses since the start."""
    return [line.strip() for line in vm.console().splitlines()
            if ANY_FAULT.search(line)]


@needs_nyx
class Stage1Test(GuestTest):
    """A guest with an IOMMU of its own of a kind, in its kernel's default mode.

    The kernel's arguments and the model's properties may change that.
    """

    kind = None
    arguments = ()
    properties = {}

    def __init_subclass__(cls):
        super().__init_subclass__()
        if cls.kind:
            cls.rare_module = MODELS[cls.kind].rare_module

    @classmethod
    def describe(cls, vm):
        add_stage1(vm, cls.kind, *cls.arguments, **cls.properties)

    def wait_logged(self, requester, direction, address):
        wait_logged(self.vm, self.kind, requester, direction, address)

    def assert_dma(self, name, mode):
        self.assertEqual(self.nyx_device(name)['dma'], mode, name)

    def assert_no_faults(self):
        super().assert_no_faults()
        self.assertEqual(logged_faults(self.vm), [])
