# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Every device: is it confined, does it work, or does anything escape?"""

from .finding import Area

# Not PCI, but they access memory: by the i8257, or by themselves
ISA_DMA = 'isa-fdc', 'sb16', 'cs4231a', 'gus', 'virtio-mmio', 'ramfb'
OTHER_PROCESS = 'vhost-user', 'vfio-user', 'proxy'
OBJECTS = '/machine/unattached', '/machine/peripheral', \
    '/machine/peripheral-anon'


def _addresses(buses, found):
    """(bus, slot, function) -> name of all PCI functions."""
    for bus in buses:
        for device in bus['devices']:
            at = device['bus'], device['slot'], device['function']
            found[at] = device['qdev_id'] or \
                '{:02x}:{:02x}.{}'.format(*at)
            bridge = device.get('pci_bridge', {})
            _addresses([{'devices': bridge.get('devices', [])}], found)
    return found


def _bdf(text):
    bus, rest = text.split(':')[1:]
    slot, function = rest.split('.')
    return int(bus, 16), int(slot, 16), int(function)


def _outside(facts, area):
    """What no domain confines, as the IOMMU does not know it."""
    known = {_bdf(device['bdf']) for device in facts['query-nyx-devices']}
    for at, name in _addresses(facts['query-pci'], {}).items():
        if at not in known:
            yield area.error(name, 'a PCI device that is not behind the Nyx '
                             'IOMMU: it accesses all memory', 'take it out')
    for path in OBJECTS:
        for kind in facts.children(path):
            if kind in ISA_DMA:
                yield area.warning(kind, 'no PCI device, so that it reaches '
                                   'all memory', 'take it out, or use a PCI '
                                   'model')


def _one(area, device, domain):
    name, server = device['device'], device.get('server', {})
    if device['dma'] == 'unmanaged':
        return area.warning(
            name, f'in domain {domain["id"]}, which is unmanaged: it '
            'accesses all memory, and nothing counts or stops it',
            'assign it to a strict or shared domain')
    if server.get('shares-ram') or (device['backend'] in OTHER_PROCESS and
                                    not server):
        return area.warning(
            name, f'its {device["backend"]} process holds guest memory, and '
            'what it does with that is not seen', 'for a vfio-user device, '
            'give its domain contained=on')
    if not device['faults-observable']:
        return area.note(
            name, "its faults happen in the host's IOMMU and are not seen "
            'here', 'watch the log of the host\'s kernel, too')
    if domain['isolation'] == 'shared' and len(domain['devices']) > 1:
        return area.ok(name, f'confined, together with '
                       f'{len(domain["devices"]) - 1} others of '
                       f'{domain["id"]}')
    return area.ok(name, f'confined in {domain["id"]}')


def confinement(facts):
    area = Area('isolation')
    if not facts['query-nyx-iommu']['enabled']:
        yield area.error(facts.name, 'the machine has no Nyx IOMMU: no '
                         'device is confined', 'use -M nyx-pc')
        return
    domains = {domain['id']: domain for domain in facts['query-nyx-domains']}
    for device in facts['query-nyx-devices']:
        yield _one(area, device, domains[device['domain']])
    yield from _outside(facts, area)


def health(facts):
    area = Area('devices')
    bad = 0
    for device in facts['query-nyx-devices']:
        name, faults = device['device'], device['total-faults']
        if device['state'] == 'failed':
            bad += 1
            yield area.error(name, f'failed, after {faults} faults',
                             f'"nyx recover {name} --force", or unplug it')
        elif device['state'] != 'operational':
            bad += 1
            yield area.warning(
                name, f'{device["state"]}, after {faults} faults',
                f'"nyx faults --device {name}" says what it did, "nyx '
                f'recover {name}" lets it in again')
        elif device['fault-count']:
            yield area.note(name, f'{device["fault-count"]} faults within '
                            'the window', f'"nyx faults --device {name}"')
        if not device.get('server', {}).get('connected', True):
            yield area.error(name, 'its server has gone',
                             'start the server, then unplug and plug it')
    if not bad and facts['query-nyx-devices']:
        yield area.ok(facts.name,
                      f'{len(facts["query-nyx-devices"])} operational')
