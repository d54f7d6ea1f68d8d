# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Arguments for network cards."""

from ..key import properties
from ..schema import BY_NAME
from .option import option

DRIVERS = {'virtio': 'virtio-net-pci', 'e1000e': 'e1000e', 'e1000': 'e1000',
           'igb': 'igb'}
CONVENTIONAL = ('e1000',)       # PCI devices, which no PCIe port is made for


def forward_text(text):
    """"tcp:2222:22" as QEMU writes it, reachable from the host only."""
    protocol, *address, port, guest = text.split(':')
    return f'{protocol}:{(address or ["127.0.0.1"])[0]}:{port}-:{guest}'


def _netdev(nic, host):
    words = {'id': nic['id'], **properties(BY_NAME['nic'], nic, 'net')}
    if nic['type'] == 'user':
        text = option('user', words)
        for item in nic['forward']:
            text += f',hostfwd={forward_text(item)}'
        return text
    words.update(ifname=host.interface(nic), script='no', downscript='no')
    if nic['queues'] > 1:
        words['queues'] = nic['queues']
    return option('tap', words)


def nic_arguments(nic, host, place):
    """-netdev and -device of one card."""
    if nic['model'] in CONVENTIONAL:
        nic = {**nic, 'port': False}
    words = {'id': nic['id'], 'netdev': nic['id'], 'mac': nic['mac'],
             **place.pci(nic), 'bootindex': place.boot_index(nic)}
    if nic['queues'] > 1:
        words['mq'] = True
        words['vectors'] = 2 * nic['queues'] + 2
    counter = ['-object', option('filter-nyx-count', {
        'id': f'count-{nic["id"]}', 'netdev': nic['id']})]
    return ['-netdev', _netdev(nic, host), *(counter if nic['count'] else []),
            '-device', option(DRIVERS[nic['model']], words)]
