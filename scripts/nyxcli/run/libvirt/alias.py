# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Names of devices, and what libvirt is to add to them."""

from .element import child

PREFIX = 'ua-'                  # libvirt wants it before names of the user's


class Overrides:
    """Collects <qemu:override>."""

    def __init__(self):
        self._wanted = []

    def name(self, element, entry):
        """Give a device its name, and have it join its domain."""
        alias = f'{PREFIX}{entry["id"]}'
        child(element, 'alias', name=alias)
        if entry.get('domain'):
            self._wanted.append((alias, entry['domain']))

    def write(self, domain):
        """Append the element to <domain>, if there is anything in it."""
        if not self._wanted:
            return
        override = child(domain, 'qemu:override')
        for alias, name in self._wanted:
            device = child(override, 'qemu:device', alias=alias)
            child(child(device, 'qemu:frontend'), 'qemu:property',
                  name='nyx-domain', type_='string', value=name)


def boot_order(element, spec, entry):
    """<boot order=...>, if the spec names the device."""
    order = spec['boot']['order'] or []
    if entry['id'] in order:
        child(element, 'boot', order=order.index(entry['id']) + 1)
