# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What the host does around the VM."""

from ..key import Key, Section
from ..loglevels import COMPONENTS, LEVELS
from ..values import Bool, Choice, File, Levels, Many, Text

LOGGING = Section('logging', 'What QEMU tells of itself, in the file log of '
                  'the run directory and on the terminal.',
                  shorthand='level', keys=(
    Key('level', Choice(LEVELS), 'How much is told by components that have no '
        'level of their own.', default='info'),
    Key('components', Levels(tuple(COMPONENTS), LEVELS), 'Levels of '
        'components.', default={}, default_text='level'),
    Key('file', File(), 'Where to.', default_text='log in the run directory'),
))

METRICS = Section('metrics', 'A Prometheus exporter for this VM, "nyx '
                  'metrics", which starts and ends with it.',
                  shorthand='listen', keys=(
    Key('listen', Text(r'[A-Za-z0-9_.:\[\]-]*:\d{1,5}', 'an address and port '
                       'such as "127.0.0.1:9955"'),
        'Address and port.', default_text='no exporter'),
))

SNAPSHOT = Section('snapshot', 'Internal snapshots, for which all disks that '
                   'can be written to have to be qcow2.', shorthand='load',
                   keys=(
    Key('load', Text(wanted='the name of a snapshot'), 'Go on from this one.',
        default_text='none'),
))

MIGRATION = Section('migration', 'Wait for a guest to come from another host.',
                    shorthand='listen', keys=(
    Key('listen', Text('defer|(tcp|unix|file):.+', '"tcp:ADDRESS:PORT", '
                       '"unix:PATH", "file:PATH" or "defer"'),
        'Where it comes in; "defer": where migrate-incoming of QMP says.',
        default_text='no migration'),
    Key('mapped-ram', Bool(), 'Whether the file was written with that '
        'capability, as by "nyx checkpoint --to".', default=False),
))

QEMU = Section('qemu', 'QEMU itself.', keys=(
    Key('program', File(), 'Another QEMU than the one that came with this '
        'command.', default_text=r'$NYX_QEMU, or beside this command'),
    Key('sandbox', Bool(), 'Forbid QEMU what it does not need (seccomp).',
        default=True),
    Key('arguments', Many(Text(wanted='an argument')), 'Further arguments, '
        'which nothing here checks.', default=(), default_text='none'),
))
