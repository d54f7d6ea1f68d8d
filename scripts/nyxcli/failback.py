# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx failback: fetch a VM back from the host that took over, losing nothing.

The guest stops there before the last checkpoint is taken, so that what it did
is in it, and QEMU ends there before one starts here. All that can be known to
be wrong here is found before that.
"""

import json
import shlex
import subprocess

from . import failover
from .checkpoint import hand_over
from .errors import NyxError
from .imageinfo import InUse, snapshots
from .options import command
from .rundir import listens, vm_dir
from .vm import connect


def _check_images(spec, tool):
    """That what is here are the images that the VM there has open."""
    found = failover.images(spec)
    if not found:
        raise NyxError(f'"{spec["name"]}" has no disk that a checkpoint could '
                       'be on.')
    for image in found:
        try:
            snapshots(tool, image)
        except InUse:
            continue
        raise NyxError(
            f'{image} is not in use, so "{spec["name"]}" does not run with '
            'it; where it has ended, "nyx failover" goes on from its newest '
            'checkpoint.')


def _there(words, name, keep):
    """Have another host's nyx hand the VM over; what it says."""
    words = [*shlex.split(words), 'checkpoint', name, '--end', '--json',
             '--keep', str(keep)]
    try:
        done = subprocess.run(words, text=True, capture_output=True,
                              check=False, stdin=subprocess.DEVNULL)
    except OSError as err:
        raise NyxError(f'{words[0]} cannot be run '
                       f'({err.strerror.lower()}); say with --from how to run '
                       'nyx there, as in --from "ssh backup nyx".') from err
    if done.returncode:
        said = (done.stderr.strip() or f'status {done.returncode}')
        text = said.splitlines()[-1].removeprefix('nyx: ').rstrip('.')
        raise NyxError(f'{name} does not come back: {text}.')
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise NyxError(f'"{shlex.join(words)}" did not answer with JSON; say '
                       'with --from how to run nyx there.') from None


def _fetch(options, name):
    """Its last checkpoint; it has ended where it was."""
    keep = 2
    if options.source:
        if listens(vm_dir(name) / 'qmp.sock'):
            raise NyxError(f'"{name}" runs on this host; without --from it is '
                           'started anew here.')
        return _there(options.source, name, keep)['checkpoint']
    with connect(name) as vm:
        return hand_over(vm, keep)['checkpoint']


def _run(options):
    # pylint: disable=import-outside-toplevel
    from .run.host import Host
    from .run.spec import load
    spec = load(options.spec, options.set)
    name, tool = spec['name'], Host(spec).image_tool
    _check_images(spec, tool)
    tag = _fetch(options, name)
    found = failover.newest(spec, tool)
    if found != tag:
        raise NyxError(f'{name} has ended at {tag}, but the newest checkpoint '
                       f'on the disks that are seen here is {found}; go on '
                       'with "nyx failover" where it was.')
    if not options.json:
        print(f'{name} comes back at {tag}', flush=True)
    status = failover.start(options, tag)
    if status and options.detach:
        raise NyxError(f'{name} has ended at {tag} and did not start here; '
                       '"nyx failover" goes on from there, also where it was.')
    return status


def add(commands):
    """Add the subcommand."""
    parser = command(
        commands, 'failback', _run, 'fetch a VM back, losing nothing',
        'On the host that gets it back. The guest is stopped where it runs, '
        'saved by a last checkpoint, ended, and goes on here, all as with '
        '"nyx run".')
    failover.spec_arguments(parser)
    parser.add_argument('--from', metavar='COMMAND', dest='source',
                        help='how to run nyx where the VM runs, such as "ssh '
                        'backup nyx" (default: it runs on this host)')
