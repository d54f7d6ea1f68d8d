# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx failover: go on from the newest complete checkpoint.

The images have to be where both hosts see them. QEMU's locks on them are the
fence: as long as another QEMU has one open to write, nothing is started.
"""

from . import restore
from .errors import NyxError
from .imageinfo import snapshots
from .jobs import TAG
from .options import command
from .output import print_json


def images(spec):
    """The disks that checkpoints are on."""
    return [disk['file'] for disk in spec['disk']
            if not disk['cdrom'] and not disk['read-only']]


def newest(spec, tool):
    """The newest checkpoint that is on each disk, and its size of memory."""
    found = images(spec)
    if not found:
        raise NyxError(f'"{spec["name"]}" has no disk that a checkpoint could '
                       'be on.')
    lists = [snapshots(tool, image) for image in found]
    tags = [tag for tag in lists[0] if TAG.fullmatch(tag)
            and all(tag in each for each in lists)
            and any(each[tag]['vm-state-size'] for each in lists)]
    if not tags:
        raise NyxError(f'the disks of "{spec["name"]}" have no complete '
                       'checkpoint; "nyx checkpoint" makes them while it '
                       'runs.')
    return max(tags)


def _run(options):
    # pylint: disable=import-outside-toplevel
    from .run.host import Host
    from .run.spec import load
    spec = load(options.spec, options.set)
    host = Host(spec)
    if options.source:
        return restore.go_on(options, spec, host)
    tag = newest(spec, host.image_tool)
    if options.dry_run:
        if options.json:
            print_json({'vm': spec['name'], 'checkpoint': tag})
        else:
            print(tag)
        return None
    if not options.json:
        print(f'{spec["name"]} goes on from {tag}', flush=True)
    return start(options, tag)


def start(options, tag):
    """nyx run, from that checkpoint; its exit status."""
    return run(options, f'snapshot.load={tag}')


def run(options, *changes):
    """nyx run, with those changes of the description."""
    # pylint: disable=import-outside-toplevel,cyclic-import
    from .main import main
    words = ['run', options.spec]
    for change in changes:
        words += ['--set', change]
    for change in options.set:
        words += ['--set', change]
    if options.detach:
        words.append('--detach')
    return main(words)


def spec_arguments(parser):
    """What start() needs."""
    parser.add_argument('spec', metavar='SPEC.toml',
                        help='the description, as for "nyx run"')
    parser.add_argument('--set', metavar='KEY=VALUE', action='append',
                        default=[], help='another value than the description '
                        'has')
    parser.add_argument('--detach', action='store_true',
                        help='come back when the guest runs')


def add(commands):
    """Add the subcommand."""
    parser = command(
        commands, 'failover', _run, 'go on from the newest complete '
        'checkpoint of a VM', 'On the host that takes over. The images have '
        'to be where both see them; as long as a QEMU has one open, nothing '
        'is started. Then all is as with "nyx run".')
    spec_arguments(parser)
    parser.add_argument('--from', metavar='DIR', dest='source',
                        help='from a directory of "nyx checkpoint --to", '
                        'whose disks are copied to where the description has '
                        'them')
    parser.add_argument('--replace', action='store_true', help='with --from: '
                        'also over disks that are there')
    parser.add_argument('--dry-run', action='store_true',
                        help='only say which checkpoint it is')
