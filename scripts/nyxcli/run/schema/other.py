# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Devices of the host, of other processes, and all others."""

from ..key import Key, Section
from ..values import Bool, Choice, File, Ident, Properties, Ref, Text, Whole
from .common import DOMAIN, PORT, ident
from .net import NIC

PASSTHROUGH = Section('passthrough', 'A PCI function of the host; prepare it '
                      'with "nyx host bind".', many=True, keys=(
    ident('host'),
    Key('host', Text('([0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\\.[0-7]',
                     'a PCI address such as "0000:03:00.0"'),
        'Where it is in the host.', required=True),
    Key('beside', Ref('passthrough'), 'Be a further function of the device '
        'that this entry is the first function of.', default_text='none'),
    Key('rom', Bool(), 'Let the guest see its ROM.', default=True),
    DOMAIN,
    PORT,
))

VFIO_USER = Section('vfio-user', 'A PCI device by a vfio-user server.',
                    many=True, keys=(
    ident('vfio-user'),
    Key('socket', File(), 'Where the server listens.', required=True),
    DOMAIN,
    PORT,
))

VHOST_USER = Section('vhost-user', 'A virtio device by a vhost-user server.',
                     many=True, keys=(
    ident('vhost-user'),
    Key('kind', Choice(('blk', 'net', 'fs')), 'Disk, network card, or files '
        'of the host (virtiofsd).', required=True),
    Key('socket', File(), 'Where the server listens.', required=True),
    Key('queues', Whole(1, 64), 'Queues; for a network card, pairs.',
        default=1),
    Key('tag', Text('[A-Za-z0-9_.-]{1,35}', 'up to 35 letters, digits, "_.-"'),
        'By what the guest mounts the files.', option='vhost-user:tag',
        when=('kind', ('fs',))),
    Key('mac', NIC.by_name['mac'].type, 'Address of a network card.',
        default_text='made from the names', when=('kind', ('net',))),
    DOMAIN,
    PORT,
))

DEVICE = Section('device', 'Any other PCI device of QEMU.', many=True, keys=(
    ident('device'),
    Key('driver', Text('[A-Za-z0-9][A-Za-z0-9_.-]*', 'a device of QEMU'),
        'Its name in QEMU.', required=True),
    Key('properties', Properties(), 'Its properties.', default={},
        default_text='none'),
    DOMAIN,
    Key('port', Bool(), PORT.help, default=False),
))

WINDOWS = 'gtk', 'sdl', 'spice-app'
DISPLAY = Section('display', 'Screen, keyboard and mouse.', shorthand='type',
                  keys=(
    Key('type', Choice(('none', 'vnc', *WINDOWS)), 'None, by VNC, or a '
        'window on this host, which QEMU has to be built with; "spice-app" '
        'starts a viewer.', default='none'),
    Key('listen', Text(r'[A-Za-z0-9_.:\[\]-]+:\d{1,4}|unix:.+',
                       'an address and display such as "127.0.0.1:0"'),
        'Address and number of the display (its port less 5900), or '
        '"unix:PATH".', default='127.0.0.1:0', when=('type', ('vnc',))),
    Key('video', Choice(('virtio', 'std', 'bochs')), 'Graphics card.',
        default='virtio', when=('type', ('vnc', *WINDOWS))),
))

PLACES = (
    Key('path', File(), 'Socket or file.', default_text='in the run '
        'directory', when=('type', ('socket', 'file'))),
)
CONSOLE = Section('console', 'The first serial port.', shorthand='type', keys=(
    Key('type', Choice(('socket', 'stdio', 'file', 'none')), 'Where it leads: '
        'a Unix socket; the terminal of "nyx run", where Ctrl-A C is the '
        'human monitor and Ctrl-A X ends the VM; a file.', default='socket'),
    *PLACES,
))

SERIAL = Section('serial', 'Further serial ports, up to three.', many=True,
                 keys=(
    Key('id', Ident(), 'Its name.', default_text='serial0, ...'),
    Key('type', Choice(('socket', 'file')), 'Where it leads.',
        default='socket'),
    *PLACES,
))

WATCHDOG = Section('watchdog', 'Acts when the guest no longer says that it '
                   'lives.', shorthand='model', keys=(
    Key('model', Choice(('none', 'i6300esb', 'itco')), 'A PCI device, or the '
        'one in the chipset.', default='none'),
    Key('action', Choice(('reset', 'shutdown', 'poweroff', 'inject-nmi',
                          'pause', 'debug', 'none')), 'What it does.',
        default='reset'),
    Key('domain', DOMAIN.type, DOMAIN.help, default_text=DOMAIN.default_text,
        when=('model', ('i6300esb',))),
))
