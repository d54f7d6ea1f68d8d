# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Note what happens to a VM: its events, and what changes between looks."""

import time

from .moment import Moment

UNPLACED = -1, (1 << 64) - 1
ROM = 6                         # its BAR, which few guests switch on


def _functions(buses, found):
    for bus in buses:
        for device in bus['devices']:
            name = device['qdev_id'] or '{:02x}:{:02x}.{}'.format(
                device['bus'], device['slot'], device['function'])
            found[name] = tuple(region['address']
                                for region in device['regions']
                                if region['type'] == 'memory'
                                and region['bar'] != ROM)
            bridge = device.get('pci_bridge', {})
            _functions([{'devices': bridge.get('devices', [])}], found)
    return found


def _placed(addresses):
    return bool(addresses) and not any(address in UNPLACED
                                       for address in addresses)


class Look:
    """How devices are at one moment."""

    def __init__(self, vm):
        self.interrupts = {
            device['device']: device['interrupts']['delivered']
            for device in vm.execute('query-nyx-devices')}
        self.addresses = _functions(vm.execute('query-pci'), {})
        self.time = time.time()


class Watcher:
    """Moments since it was made; step() adds those of a while."""

    def __init__(self, vm, resolution):
        self.moments = []
        self._vm = vm
        self._resolution = resolution
        self._last = Look(vm)
        self._quiet = dict(self._last.interrupts)

    def _note(self, *moment):
        self.moments.append(Moment(*moment))

    def _note_event(self, event):
        stamp = event['timestamp']
        at = stamp['seconds'] + stamp['microseconds'] / 1e6
        self._note(at, 'event', event['event'], event.get('data', {}))
        if event['event'] == 'RESET':
            # Nobody drives devices, and none has a place, even if the
            # firmware is quicker than we look.
            self._quiet = dict(self._last.interrupts)
            self._last.addresses = {}

    def _compare(self, look):
        old = self._last
        for name in look.interrupts.keys() - old.interrupts.keys():
            self._note(look.time, 'added', name)
            self._quiet[name] = 0
        for name in old.interrupts.keys() - look.interrupts.keys():
            self._note(look.time, 'removed', name)
            self._quiet.pop(name, None)
        for name, addresses in look.addresses.items():
            if _placed(addresses) and addresses != old.addresses.get(name):
                self._note(look.time, 'placed', name)
        for name, count in look.interrupts.items():
            if name in self._quiet and count != self._quiet[name]:
                self._note(look.time, 'interrupt', name)
                del self._quiet[name]
        self._last = look

    def step(self):
        for event in self._vm.events(self._resolution):
            self._note_event(event)
        self._compare(Look(self._vm))
        self.moments.sort(key=lambda moment: moment.time)

    def idle(self):
        """Seconds since anything happened."""
        return time.time() - self.moments[-1].time if self.moments else 0
