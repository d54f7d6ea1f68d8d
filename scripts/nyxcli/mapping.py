# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx map and nyx unmap: what the devices of a domain may access."""

from .domains import show_one
from .options import command, vm_option
from .units import number
from .vm import connect


def _map(options):
    gpa = options.iova if options.gpa is None else options.gpa
    with connect(options.vm) as vm:
        vm.execute('nyx-map', domain=options.domain, iova=options.iova,
                   gpa=gpa, size=options.size, access=options.access)
        show_one(vm, options.domain, options.json)


def _unmap(options):
    with connect(options.vm) as vm:
        vm.execute('nyx-unmap', domain=options.domain, iova=options.iova,
                   size=options.size)
        show_one(vm, options.domain, options.json)


def _range(parser):
    vm_option(parser)
    parser.add_argument('domain', metavar='DOMAIN')
    parser.add_argument('iova', metavar='ADDRESS', type=number,
                        help='first address, as the devices see it')
    parser.add_argument('size', metavar='SIZE', type=number,
                        help='a multiple of 4096; K, M and G are of 1024')


def add(commands):
    """Add the subcommands."""
    parser = command(commands, 'map', _map, 'allow the devices of a domain to '
                     'access a range of guest memory')
    _range(parser)
    parser.add_argument('--gpa', metavar='ADDRESS', type=number,
                        help='guest physical address (default: the same)')
    parser.add_argument('--access', choices=('r', 'w', 'rw'), default='rw',
                        help='direction, as the devices see it (default: rw)')
    _range(command(commands, 'unmap', _unmap,
                   'forbid the devices of a domain to access a range'))
