# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The command line of QEMU for a spec."""

from . import builtin, devices, machine
from .network import nic_arguments
from .objects import objects
from .place import Place
from .storage import Disks


def _devices(spec, host, place):
    """All that is a device, in the order of the schema."""
    disks = Disks(place)
    for disk in spec['disk']:
        disks.add(disk)
    words = disks.arguments
    for nic in spec['nic']:
        words += nic_arguments(nic, host, place)
    words += devices.passthrough(spec, place)
    for make, name in ((devices.vfio_user, 'vfio-user'),
                       (devices.vhost_user, 'vhost-user'),
                       (devices.device, 'device')):
        for entry in spec[name]:
            words += make(entry, place)
    return words


def command(spec, host):
    """All words of the command; host: host.Host, what was found there."""
    place = Place(spec)
    found = _devices(spec, host, place)
    return [str(host.program),
            *machine.machine(spec, host), *machine.memory(spec),
            *machine.firmware(spec, host), *machine.surroundings(spec),
            *builtin.monitors(host), *machine.boot(spec), *objects(spec),
            *place.ports.arguments, *builtin.usb(spec), *found,
            *builtin.tpm(spec, host),
            *builtin.display(spec), *builtin.console(spec, host),
            *builtin.serials(spec, host), *builtin.watchdog(spec, place),
            *builtin.rng(spec, place), *machine.beginning(spec),
            *(['-S'] if host.starts_stopped else []),
            *spec['qemu']['arguments']]
