# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Network cards, as far as libvirt has them."""

from .alias import boot_order
from .element import child

MODELS = ('virtio', 'e1000e', 'e1000')


def is_known(nic):
    """Whether libvirt 9.0 can describe it."""
    return nic['model'] in MODELS and not nic['forward'] and \
        not nic['restrict']


def add(devices, spec, nic, overrides):
    """One card."""
    kinds = {'user': 'user', 'tap': 'ethernet', 'bridge': 'bridge'}
    element = child(devices, 'interface', type_=kinds[nic['type']])
    child(element, 'mac', address=nic['mac'])
    if nic['type'] == 'bridge':
        child(element, 'source', bridge=nic['bridge'])
    if nic['interface']:
        child(element, 'target', dev=nic['interface'],
              managed=False if nic['type'] == 'tap' else None)
    child(element, 'model', type_=nic['model'])
    if nic['model'] == 'virtio' and nic['type'] != 'user':
        child(element, 'driver', name='vhost' if nic['vhost'] else 'qemu',
              queues=nic['queues'] if nic['queues'] > 1 else None)
    boot_order(element, spec, nic)
    overrides.name(element, nic)
