# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx dump: all that the Nyx IOMMU knows, in a file for a support case."""

import time
from pathlib import Path

from .options import command, vm_argument
from .output import print_json
from .units import bytes_text
from .vm import connect


def _run(options):
    with connect(options.vm) as vm:
        name = vm.name.strip('/').replace('/', '-')
        stamp = time.strftime('%Y%m%d-%H%M%S')
        path = Path(options.output or f'nyx-{name}-{stamp}.json').absolute()
        # QEMU writes it: only it has the tables of the domains.
        vm.execute('nyx-dump', filename=str(path))
    if options.json:
        print_json({'file': str(path)})
    else:
        print(f'{path} ({bytes_text(path.stat().st_size)})')


def add(commands):
    """Add the subcommand."""
    parser = command(
        commands, 'dump', _run, 'write all that the Nyx IOMMU knows to a file',
        'Figures, domains, tables, devices and fault records, as JSON, for a '
        'support case. QEMU writes the file, so it must be allowed to.')
    vm_argument(parser)
    parser.add_argument('-o', '--output', metavar='FILE',
                        help='where to (default: nyx-VM-DATE.json here)')
