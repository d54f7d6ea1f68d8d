# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The description of a VM for libvirt."""

from xml.etree.ElementTree import Comment, Element, indent, tostring

from . import commandline, devices, frame, nics
from .alias import Overrides
from .disks import Disks, is_known
from .element import child

NAMESPACE = 'http://libvirt.org/schemas/domain/qemu/1.0'


def _devices(domain, spec, host, overrides):
    element = child(domain, 'devices')
    child(element, 'emulator', host.program)
    child(element, 'controller', type_='pci', index=0, model='pcie-root')
    disks = Disks(element, spec, overrides)
    for disk in spec['disk']:
        if is_known(disk):
            disks.add(disk)
    for nic in spec['nic']:
        if nics.is_known(nic):
            nics.add(element, spec, nic, overrides)
    devices.passthrough(element, spec, overrides)
    for entry in spec['vhost-user']:
        devices.vhost_user(element, spec, entry, disks, overrides)
    devices.tpm(element, spec)
    devices.display(element, spec)
    devices.serials(element, spec)
    devices.watchdog(element, spec, overrides)
    devices.rng(element, spec)
    child(element, 'memballoon', model='none')


def domain_xml(spec, host):
    """The text for "virsh define"."""
    domain = Element('domain', {
        'type': 'kvm' if host.accel == 'kvm' else 'qemu',
        'xmlns:qemu': NAMESPACE})
    child(domain, 'name', spec['name'])
    if spec['uuid']:
        child(domain, 'uuid', spec['uuid'])
    frame.memory(domain, spec)
    frame.processors(domain, spec)
    frame.system(domain, spec)
    frame.features(domain, spec)
    frame.cpu(domain, spec, host.accel)
    child(domain, 'clock', offset=spec['clock'])
    overrides = Overrides()
    _devices(domain, spec, host, overrides)
    commandline.write(domain, spec, host)
    overrides.write(domain)
    for text in commandline.left_out(spec):
        domain.insert(0, Comment(f' not here: {text} '.replace('--', '-')))
    indent(domain)
    return tostring(domain, 'unicode')
