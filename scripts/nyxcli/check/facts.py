# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What the checks look at, asked once."""

from ..errors import NyxError, Refused
from ..rundir import listener, vm_dir

QUERIES = ('query-status', 'query-kvm', 'query-memory-size-summary',
           'query-pci', 'query-block', 'query-tpm', 'query-chardev',
           'query-nyx-iommu', 'query-nyx-domains', 'query-nyx-devices',
           'query-nyx-migration')


def _folder(name):
    try:
        return vm_dir(name)
    except NyxError:
        return None                 # it was named by the path of a socket


class Facts:
    """Answers by command, and what only asking again would tell."""

    def __init__(self, vm):
        self._vm = vm
        self._answers = {name: vm.execute(name) for name in QUERIES}
        self.name, self.of_libvirt = vm.name, vm.of_libvirt
        self.folder = _folder(vm.name)
        self.process = listener(self.folder / 'qmp.sock') if self.folder \
            else None

    def __getitem__(self, query):
        return self._answers[query]

    def get(self, path, name):
        """A property of an object; None if there is none."""
        try:
            return self._vm.execute('qom-get', path=path, property=name)
        except Refused:
            return None

    def _list(self, path):
        try:
            return self._vm.execute('qom-list', path=path)
        except Refused:
            return []

    def children(self, path):
        """Types of the objects below one."""
        return [entry['type'][6:-1] for entry in self._list(path)
                if entry['type'].startswith('child<')]

    def occupied(self, port):
        """Whether a device is in a port, whatever buses the guest knows."""
        path = port if port.startswith('/') else f'/machine/peripheral/{port}'
        return any(entry['name'].startswith('child[')
                   for bus in self._list(path)
                   if bus['type'] == 'child<PCIE>'
                   for entry in self._list(f'{path}/{bus["name"]}'))

    def traced(self, event):
        """Whether a trace event is on."""
        try:
            states = self._vm.execute('trace-event-get-state', name=event)
        except Refused:
            return False
        return any(state['state'] == 'enabled' for state in states)
