# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Arguments for devices of the host, of servers, and all others."""

import json

from ..key import properties
from ..schema import BY_NAME
from .option import option

VHOST_USER = {'blk': 'vhost-user-blk-pci', 'net': 'virtio-net-pci',
              'fs': 'vhost-user-fs-pci'}


def passthrough(spec, place):
    """-device vfio-pci for each function."""
    words, buses, functions = [], {}, {}
    firsts = {entry['beside'] for entry in spec['passthrough']}
    for entry in sorted(spec['passthrough'], key=lambda e: bool(e['beside'])):
        own = {'id': entry['id'], 'host': entry['host'],
               'rombar': None if entry['rom'] else 0}
        first = entry['beside']
        if first:
            functions[first] = functions.get(first, 0) + 1
            own.update(buses[first])
            own['addr'] = f'0x0.{functions[first]:x}'
            own['nyx-domain'] = entry['domain']
        else:
            own.update(place.pci(entry))
            buses[entry['id']] = {'bus': own['bus']}
            if entry['id'] in firsts:
                own.update(addr='0x0', multifunction=True)
        own['bootindex'] = place.boot_index(entry)
        words += ['-device', option('vfio-pci', own)]
    return words


def vfio_user(entry, place):
    """-device vfio-user-pci, in JSON: its socket is no plain value."""
    words = {'driver': 'vfio-user-pci', 'id': entry['id'], **place.pci(entry),
             'socket': {'type': 'unix', 'path': entry['socket']}}
    return ['-device', json.dumps({name: value for name, value
                                   in words.items() if value is not None})]


def vhost_user(entry, place):
    """-chardev and -device of a vhost-user server."""
    name, kind = entry['id'], entry['kind']
    words = ['-chardev', option('socket', {'id': f'{name}-chr',
                                           'path': entry['socket']})]
    own = {'id': name, **properties(BY_NAME['vhost-user'], entry,
                                    'vhost-user'), **place.pci(entry)}
    if kind == 'net':
        words += ['-netdev', option('vhost-user', {
            'id': name, 'chardev': f'{name}-chr',
            'queues': entry['queues']})]
        own.update(netdev=name, mac=entry['mac'])
        if entry['queues'] > 1:
            own.update(mq=True, vectors=2 * entry['queues'] + 2)
    else:
        own.update({'chardev': f'{name}-chr',
                    'num-queues' if kind == 'blk' else 'num-request-queues':
                    entry['queues']})
    if kind != 'fs':
        own['bootindex'] = place.boot_index(entry)
    return [*words, '-device', option(VHOST_USER[kind], own)]


def device(entry, place):
    """-device of any other kind."""
    return ['-device', option(entry['driver'], {
        'id': entry['id'], **place.pci(entry), **entry['properties'],
        'bootindex': place.boot_index(entry)})]
