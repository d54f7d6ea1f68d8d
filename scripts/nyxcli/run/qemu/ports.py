# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Where PCI devices go: each behind a port of its own, or the root bus."""

from .option import option

# Up to 0x17 the machine has none of its own; devices without an address begin
# at 1. Eight ports are the functions of one slot.
FIRST_SLOT = 0x10
FUNCTIONS = 8
CHASSIS = 249                   # the machine has 250, libvirt counts from 1


class Ports:
    """Hands out ports, and remembers what makes them.

    With a last_slot, devices of the root bus get slots from there downwards;
    without, QEMU chooses.
    """

    def __init__(self, last_slot=None):
        self.arguments = []
        self._count = 0
        self._slot = last_slot

    def bus(self, entry):
        """The property that puts the device of an entry into its place."""
        if not entry.get('port') and self._slot:
            self._slot -= 1
            return {'bus': 'pcie.0', 'addr': f'{self._slot + 1:#x}'}
        if not entry.get('port'):
            return {'bus': 'pcie.0'}
        return {'bus': self._new(entry['id'])}

    def _new(self, device):
        number, self._count = self._count, self._count + 1
        slot, function = divmod(number, FUNCTIONS)
        name = f'port-{device}'
        self.arguments += ['-device', option('nyx-root-port', {
            'id': name, 'bus': 'pcie.0',
            'addr': f'{FIRST_SLOT + slot:#x}.{function:x}',
            'multifunction': True, 'chassis': CHASSIS, 'slot': number + 1})]
        return name
