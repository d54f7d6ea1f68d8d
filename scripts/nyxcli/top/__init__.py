# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx top: rates of one VM, or of all of them, live."""

import sys
import time

from ..background import add_all
from ..options import VM_HELP, command
from ..output import print_json, table
from ..rundir import running
from ..units import seconds
from ..vm import connect
from .one import One
from .several import Several


def _source(names):
    """Of one VM more is shown than of several."""
    if len(names) > 1 or not names and len(running()) > 1:
        return Several(names)
    with connect(names[0] if names else None) as vm:
        name = vm.name
    return One(name)


def _text(head, tables):
    return '\n\n'.join(['\n'.join(head), *(table(*each) for each in tables)])


def _run(options):
    source = _source(options.vms)
    once = options.once or options.json
    if not once and sys.stdout.isatty():
        # pylint: disable=import-outside-toplevel
        from .screen import live
        live(source, options.interval, options.all)
        return
    while True:
        time.sleep(options.interval)
        shown = source.look()
        if options.json:
            print_json(shown)
        else:
            print(_text(*source.show(shown, options.all)), flush=True)
        if once:
            return
        print()


def add(commands):
    """Add the subcommand."""
    parser = command(
        commands, 'top', _run, 'watch the domains and devices of VMs',
        'Rates of faults and interrupts, IOTLB hit rate, disks, network, '
        'states, the latest faults, and the most likely bottleneck. Of '
        'several VMs, a line each, and the devices in trouble. '
        'Without a terminal, one text after the other.')
    parser.add_argument('vms', metavar='VM', nargs='*', help=VM_HELP.replace(
        'the only one that runs', 'all that run'))
    add_all(parser)
    parser.add_argument('--interval', metavar='TIME', type=seconds, default=2,
                        help='between two looks (default: 2)')
    parser.add_argument('--once', action='store_true', help='print the rates '
                        'of one interval, and end; so does --json')
