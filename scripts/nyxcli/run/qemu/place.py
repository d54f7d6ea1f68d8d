# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What devices of all kinds share: bus, domain, order of boot."""

from .ports import Ports


class Place:
    """Bus, domain and turn at boot of devices."""

    def __init__(self, spec, last_slot=None):
        self.ports = Ports(last_slot)
        self._order = spec['boot']['order'] or []

    def pci(self, entry):
        """Properties for the bus and the domain of a PCI device."""
        return {**self.ports.bus(entry), 'nyx-domain': entry.get('domain')}

    def boot_index(self, entry):
        """From 1; None if the firmware is to choose."""
        if entry['id'] in self._order:
            return self._order.index(entry['id']) + 1
        return None
