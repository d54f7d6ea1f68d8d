# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What libvirt has no words for, as arguments for QEMU."""

from ..key import properties
from ..loglevels import masks, patterns
from ..qemu import builtin
from ..qemu.devices import device, vfio_user
from ..qemu.network import nic_arguments
from ..qemu.option import option
from ..qemu.place import Place
from ..qemu.storage import Disks
from ..schema import BY_NAME
from ..schema.other import WINDOWS
from . import disks, nics
from .element import child

LAST_SLOT = 0x16                # libvirt counts up from 1


def _machine(spec):
    """Properties of the machine; QEMU merges several -machine."""
    values = spec['machine']
    words = properties(BY_NAME['machine'], values, 'machine')
    for name, value in (values['stage1-options'] or {}).items():
        words[f'stage1.{name}'] = value
    # libvirt has -nodefaults, with which the machine has none of its own.
    words['hotplug-ports'] = values['hotplug-ports']
    return ['-machine', option(None, words)]


def _domains(spec):
    words = []
    for entry in spec['domain']:
        words += ['-object', option('nyx-domain', {
            'id': entry['id'],
            **properties(BY_NAME['domain'], entry, 'domain')})]
    return words


def _logging(spec):
    words = []
    for pattern in patterns(spec['logging']):
        words += ['-trace', f'enable={pattern}']
    items = masks(spec['logging'])
    return words + (['-d', ','.join(items)] if items else [])


def _devices(spec, host, place):
    found = Disks(place)
    for disk in spec['disk']:
        if not disks.is_known(disk):
            found.add(disk)
    words = found.arguments
    for nic in spec['nic']:
        if not nics.is_known(nic):
            words += nic_arguments(nic, host, place)
    for entry in spec['vfio-user']:
        words += vfio_user(entry, place)
    for entry in spec['device']:
        words += device(entry, place)
    if spec['watchdog']['model'] == 'itco':
        words += builtin.watchdog(spec, place)
    return words


def arguments(spec, host):
    """All words for <qemu:commandline>."""
    place = Place(spec, LAST_SLOT)
    devices = _devices(spec, host, place)
    return [*_machine(spec), *_domains(spec), *_logging(spec),
            *place.ports.arguments, *devices, *spec['qemu']['arguments']]


def write(domain, spec, host):
    """Append the element to <domain>, if there is anything in it."""
    words = arguments(spec, host)
    if words:
        element = child(domain, 'qemu:commandline')
        for word in words:
            child(element, 'qemu:arg', value=word)


def left_out(spec):
    """What a domain of libvirt cannot hold, as sentences."""
    if spec['snapshot']['load']:
        yield 'snapshot.load: use "virsh snapshot-revert"'
    if spec['migration']['listen']:
        yield 'migration.listen: use "virsh migrate"'
    if spec['metrics']['listen']:
        yield 'metrics.listen: run "nyx metrics" for the domain'
    if spec['logging']['file']:
        yield "logging.file: libvirt's own log of the domain has it"
    if any(entry['create'] for entry in spec['disk']):
        yield 'disk.create: make images with "qemu-img create"'
    if spec['display']['type'] in WINDOWS:
        yield 'display.type: "virt-viewer" opens a window, by VNC'
    if spec['tpm']['state']:
        yield 'tpm.state: libvirt has a place of its own'
    if any(entry['map'] for entry in spec['domain']):
        yield 'domain.map: use "nyx map" when the domain runs'
