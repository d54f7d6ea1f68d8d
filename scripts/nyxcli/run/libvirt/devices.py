# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Devices of the host and of servers, and the small ones."""

from .alias import boot_order
from .element import child

VIDEO = {'virtio': 'virtio', 'std': 'vga', 'bochs': 'bochs'}
FIRST_VNC = 5900


def host_address(text):
    """"0000:03:00.0" as attributes."""
    domain, bus, rest = text.split(':')
    slot, function = rest.split('.')
    return {'domain': f'0x{domain}', 'bus': f'0x{bus}', 'slot': f'0x{slot}',
            'function': f'0x{function}'}


def passthrough(devices, spec, overrides):
    """<hostdev>, and a port where several functions are to be one device."""
    firsts = [entry['beside'] for entry in spec['passthrough']
              if entry['beside']]
    buses = {name: number for number, name
             in enumerate(dict.fromkeys(firsts), 1)}
    for number in buses.values():
        child(devices, 'controller', type_='pci', index=number,
              model='pcie-root-port')
    functions = {}
    for entry in spec['passthrough']:
        element = child(devices, 'hostdev', mode='subsystem', type_='pci',
                        managed=False)
        child(child(element, 'source'), 'address',
              **host_address(entry['host']))
        boot_order(element, spec, entry)
        if not entry['rom']:
            child(element, 'rom', bar='off')
        overrides.name(element, entry)
        first = entry['beside'] or entry['id']
        if first in buses:
            number = 0
            if entry['beside']:
                number = functions[first] = functions.get(first, 0) + 1
            child(element, 'address', type_='pci', domain='0x0000',
                  bus=f'0x{buses[first]:02x}', slot='0x00',
                  function=f'0x{number}',
                  multifunction=None if number else 'on')


def vhost_user(devices, spec, entry, disks, overrides):
    """A disk, card or file system of a server."""
    kind = entry['kind']
    queues = entry['queues'] if entry['queues'] > 1 else None
    if kind == 'blk':
        element = child(devices, 'disk', type_='vhostuser', device='disk')
        child(element, 'driver', name='qemu', type_='raw', queues=queues)
        child(element, 'source', type_='unix', path=entry['socket'])
        child(element, 'target', **disks.target({'bus': 'virtio'}))
    elif kind == 'net':
        element = child(devices, 'interface', type_='vhostuser')
        child(element, 'mac', address=entry['mac'])
        child(element, 'source', type_='unix', path=entry['socket'],
              mode='client')
        child(element, 'model', type_='virtio')
        if queues:
            child(element, 'driver', queues=queues)
    else:
        element = child(devices, 'filesystem', type_='mount')
        child(element, 'driver', type_='virtiofs')
        child(element, 'source', socket=entry['socket'])
        child(element, 'target', dir=entry['tag'])
    if kind != 'fs':
        boot_order(element, spec, entry)
    overrides.name(element, entry)


def tpm(devices, spec):
    """<tpm>: libvirt starts swtpm itself."""
    if spec['tpm']['enabled']:
        element = child(devices, 'tpm', model=f'tpm-{spec["tpm"]["model"]}')
        child(element, 'backend', type_='emulator', version='2.0')


def display(devices, spec):
    """<graphics>, <video> and <input>; or that there are none."""
    values = spec['display']
    used = values['type'] != 'none' or \
        any(disk['bus'] == 'usb' for disk in spec['disk'])
    child(devices, 'controller', type_='usb',
          model='qemu-xhci' if used else 'none')
    if values['type'] == 'none':
        child(child(devices, 'video'), 'model', type_='none')
        return
    for kind in ('tablet', 'keyboard'):
        child(devices, 'input', type_=kind, bus='usb')
    listen = values['listen']
    if values['type'] != 'vnc':
        child(devices, 'graphics', type_='vnc', autoport=True)
    elif listen.startswith('unix:'):
        child(devices, 'graphics', type_='vnc', socket=listen[5:])
    else:
        address, _, number = listen.rpartition(':')
        child(devices, 'graphics', type_='vnc', autoport=False,
              port=FIRST_VNC + int(number), listen=address.strip('[]'))
    child(child(devices, 'video'), 'model', type_=VIDEO[values['video']])


def _serial(devices, values):
    if values['type'] == 'none':
        return
    path = values['path']
    kind = {'file': 'file', 'stdio': 'pty'}.get(
        values['type'], 'unix' if path else 'pty')
    element = child(devices, 'serial', type_=kind)
    if kind != 'pty':
        child(element, 'source', path=path,
              mode='bind' if kind == 'unix' else None)


def serials(devices, spec):
    """<serial>; what would be a socket in the run directory is a pty."""
    _serial(devices, spec['console'])
    for entry in spec['serial']:
        _serial(devices, entry)


def watchdog(devices, spec, overrides):
    """<watchdog>; libvirt 9.0 does not know the one of the chipset."""
    values = spec['watchdog']
    if values['model'] == 'i6300esb':
        element = child(devices, 'watchdog', model='i6300esb',
                        action=values['action'])
        overrides.name(element, {'id': 'watchdog',
                                 'domain': values['domain']})


def rng(devices, spec):
    """<rng>"""
    if spec['rng']:
        element = child(devices, 'rng', model='virtio')
        child(element, 'backend', '/dev/urandom', model='random')
