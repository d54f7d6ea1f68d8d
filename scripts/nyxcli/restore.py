# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx failover --from: go on from a directory of "nyx checkpoint --to".

The disks are copied from it, so that it stays as it is: from the same
checkpoint one can go on again.
"""

import os
import subprocess
from pathlib import Path

from . import checkpoint_copy
from .errors import NyxError
from .imageinfo import snapshots
from .output import print_json


def _disks(spec, host):
    """(name, file, format) of all that a checkpoint has to have."""
    found = [(disk['id'], disk['file'], disk['format']) for disk
             in spec['disk'] if not disk['cdrom'] and not disk['read-only']]
    firmware = host.firmware
    if firmware.code_flash:
        found.append(('uefi-vars', firmware.vars, firmware.vars_format))
    return found


def _newest(spec, tool, folder, disks):
    """The newest one that has all the disks."""
    names = [name for name, _, _ in disks]
    tags = {name: set(snapshots(tool, folder / f'{name}.qcow2'))
            for name in names if (folder / f'{name}.qcow2').exists()}
    found = [about['checkpoint'] for about
             in checkpoint_copy.complete(folder)
             if all(name in about['disks'] and
                    about['checkpoint'] in tags.get(name, ())
                    for name in names)]
    if not found:
        raise NyxError(f'{folder} has no complete checkpoint of '
                       f'"{spec["name"]}"; "nyx checkpoint --to" makes them '
                       'while it runs.')
    return found[-1]


def _check_place(disks, tool, replace):
    """That disks may be put where the description has them."""
    for _, path, _ in disks:
        if not os.path.exists(path):
            continue
        snapshots(tool, path)           # InUse, if it is
        if not replace:
            raise NyxError(f'{path} is there already; say --replace if it may '
                           'be overwritten, or move it away.')


def _copy(tool, folder, tag, disk):
    """One disk as it was then; the file is there when it is complete."""
    name, path, kind = disk
    device = path.startswith('/dev/')
    new = path if device else f'{path}.new'
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [str(tool), 'convert', *(['-n'] if device else []),
         '-l', f'snapshot.name={tag}', '-f', 'qcow2', '-O', kind,
         str(folder / f'{name}.qcow2'), new],
        capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL)
    if done.returncode:
        text = done.stderr.strip().splitlines()[-1].rstrip('.')
        raise NyxError(f'{path} cannot be made: '
                       f'{text.removeprefix("qemu-img: ")}; make room, or '
                       'name another file in the description.')
    if not device:
        os.replace(new, path)


def go_on(options, spec, host):
    """nyx run from there; its exit status."""
    # pylint: disable=import-outside-toplevel,cyclic-import
    from . import failover
    folder, tool = Path(options.source).absolute(), host.image_tool
    disks = _disks(spec, host)
    tag = _newest(spec, tool, folder, disks)
    if options.dry_run:
        if options.json:
            print_json({'vm': spec['name'], 'checkpoint': tag})
        else:
            print(tag)
        return None
    _check_place(disks, tool, options.replace)
    for disk in disks:
        _copy(tool, folder, tag, disk)
    if not options.json:
        print(f'{spec["name"]} goes on from {tag}', flush=True)
    memory = folder / f'{tag}.memory'
    return failover.run(options, f'migration.listen=file:{memory}',
                        'migration.mapped-ram=true')
