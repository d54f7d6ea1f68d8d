# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Network cards."""

from ..key import Key, Section
from ..values import Bool, Choice, Many, Text, Whole
from .common import DOMAIN, PORT, ident

INTERFACE = Text('[A-Za-z0-9_.-]{1,15}', 'the name of a network interface')
TAPS = ('tap', 'bridge')

NIC = Section('nic', 'A network card.', many=True, keys=(
    ident('nic'),
    Key('model', Choice(('virtio', 'e1000e', 'e1000', 'igb')),
        'What the guest sees.', default='virtio'),
    Key('type', Choice(('user', 'tap', 'bridge')), "What it leads to: NAT by "
        "QEMU, without any privilege; an interface of the host's; a bridge of "
        "the host's, by an interface that is made for it.", default='user'),
    Key('mac', Text('[0-9a-f][02468ace](:[0-9a-f]{2}){5}',
                    'a unicast MAC address in lower case such as '
                    '"52:54:00:12:34:56"'),
        'Its address.', default_text='made from the names of VM and NIC'),
    Key('interface', INTERFACE, 'The interface, which for "tap" has to be '
        'there.', default_text='for "bridge": made up',
        when=('type', TAPS)),
    Key('bridge', INTERFACE, 'The bridge, which has to be there.',
        when=('type', ('bridge',))),
    Key('vhost', Bool(), "Let the host's kernel serve it.", default=False,
        option='net:vhost', when=('type', TAPS)),
    Key('queues', Whole(1, 64), 'Pairs of queues.', default=1,
        when=('type', TAPS)),
    Key('forward', Many(Text(r'(tcp|udp):([0-9.]+:)?\d{1,5}:\d{1,5}',
                             '"tcp:HOSTPORT:GUESTPORT"')),
        'Ports of the host that lead to the guest: "tcp:2222:22", or with an '
        'address of the host "tcp:0.0.0.0:2222:22"; else only the host itself '
        'reaches them.', default=(), when=('type', ('user',))),
    Key('restrict', Bool(), 'Keep the guest from reaching anything outside.',
        default=False, option='net:restrict', when=('type', ('user',))),
    Key('count', Bool(), 'Count packets and bytes for "nyx metrics"; what '
        'vhost serves cannot be counted.', default_text='true without vhost'),
    DOMAIN,
    PORT,
))
