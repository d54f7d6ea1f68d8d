# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Keys that many sections have."""

from ..key import Key
from ..values import Bool, Ident, Ref

DOMAIN = Key('domain', Ref('domain'), 'Domain that it joins.',
             default_text='one of its own')
PORT = Key('port', Bool(), 'Behind a ``nyx-root-port`` of its own, so that '
           'it can be unplugged and the guest can take part in its recovery; '
           'false: on the root bus.', default=True)


def ident(name):
    return Key('id', Ident(), 'Its name.', default_text=f'{name}0, ...')
