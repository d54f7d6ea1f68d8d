# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx checkpoint: the whole VM, again and again, for another host to go on.

A checkpoint is an internal snapshot: memory, devices and disks of the same
moment. QEMU enters it into the list of an image when all of it is written, so
that one of which the VM died is in no list, or not in that of each disk.
"""

import time

from . import checkpoint_copy
from .errors import Gone, NyxError
from .jobs import TAG, new_tag, run_job
from .options import command, vm_argument
from .output import print_json
from .run.stop import end
from .units import bytes_text, count, seconds
from .vm import connect

END_SECONDS = 120


def _disks(vm):
    """Nodes of all disks that the guest can write to, and their images."""
    nodes = {}
    for disk in vm.execute('query-block'):
        inserted = disk.get('inserted')
        if not inserted or inserted['ro']:
            continue
        if inserted['drv'] != 'qcow2':
            raise NyxError(
                f'disk {disk.get("qdev") or disk["device"]} of {vm.name} is '
                f'{inserted["drv"]}, which has no snapshots; use qcow2 for '
                'all disks that the guest writes to.')
        nodes[inserted['node-name']] = inserted['image']
    if not nodes:
        raise NyxError(f'{vm.name} has no disk to keep a checkpoint on; give '
                       'it a qcow2 image, which may be a small one.')
    return nodes


def _on_all(nodes):
    """Snapshots that each image has, by tag."""
    lists = [{snapshot['name']: snapshot
              for snapshot in image.get('snapshots', [])}
             for image in nodes.values()]
    return {tag: lists[0][tag] for tag in sorted(lists[0])
            if TAG.fullmatch(tag) and all(tag in each for each in lists)}


def _stale(nodes, keep):
    """Tags to delete: all but the newest, and what is not on all disks."""
    good = list(_on_all(nodes))
    found = {snapshot['name'] for image in nodes.values()
             for snapshot in image.get('snapshots', [])
             if TAG.fullmatch(snapshot['name'])}
    return sorted(found - set(good[-keep:]))


def take(vm, keep):
    """One more; what it was like. The oldest go when it is complete."""
    vm.not_by_libvirt(f'virsh snapshot-create {vm.name}')
    nodes = _disks(vm)
    tag, began = new_tag(), time.monotonic()
    names = list(nodes)
    run_job(vm, 'snapshot-save', f'checkpoint {tag} of {vm.name}', tag=tag,
             vmstate=names[0], devices=names)
    took = time.monotonic() - began
    nodes = _disks(vm)
    for old in _stale(nodes, keep):
        run_job(vm, 'snapshot-delete', f'deleting checkpoint {old}', tag=old,
                 devices=names)
    size = _on_all(nodes)[tag]['vm-state-size']
    return {'vm': vm.name, 'checkpoint': tag, 'seconds': round(took, 3),
            'vm-state-bytes': size}


def hand_over(vm, keep, folder=None):
    """The last one, after which the guest does no more, and QEMU ends.

    On an error the guest goes on.
    """
    about = checkpoint_copy.take(vm, folder, keep, True) if folder else \
        _take_stopped(vm, keep)
    if not end(vm, True, END_SECONDS):
        raise NyxError(f'{vm.name} has not ended within {END_SECONDS} s after '
                       f'{about["checkpoint"]}; its guest stands still, so '
                       'end that QEMU by force.')
    return {**about, 'ended': True}


def _take_stopped(vm, keep):
    running = vm.execute('query-status')['running']
    vm.execute('stop')
    try:
        return take(vm, keep)
    except NyxError:
        if running:
            vm.execute('cont')
        raise


def _take(vm, options):
    """As the command line wants it."""
    if options.end:
        return hand_over(vm, options.keep, options.to)
    if options.to:
        return checkpoint_copy.take(vm, options.to, options.keep)
    return take(vm, options.keep)


def _text(about):
    text = f'{about["checkpoint"]}: {bytes_text(about["vm-state-bytes"])}'
    if 'disk-bytes' in about:
        text += f' and {bytes_text(about["disk-bytes"])} of disks'
    text += f' in {about["seconds"]:.1f} s'
    if about.get('stood-still-seconds') is not None:
        text += f', stood still for {about["stood-still-seconds"]:.2f} s'
    return f'{text}; {about["vm"]} has ended' if about.get('ended') else text


def _run(options):
    if options.keep < 1:
        raise NyxError('at least one checkpoint has to be kept; say --keep 1 '
                       'or more.')
    if options.end and options.every:
        raise NyxError('--end takes one checkpoint, and --every many; leave '
                       'one of them out.')
    left = options.count if options.every else 1
    while left is None or left > 0:
        began = time.monotonic()
        try:
            with connect(options.vm) as vm:
                about = _take(vm, options)
        except Gone as err:
            raise Gone(f'{err} What it had completed before can be gone on '
                       'from with "nyx failover".') from err
        if options.json:
            print_json(about)
        else:
            print(_text(about), flush=True)
        left = None if left is None else left - 1
        if left != 0:
            time.sleep(max(0, began + options.every - time.monotonic()))


def add(commands):
    """Add the subcommand."""
    parser = command(
        commands, 'checkpoint', _run, 'save a VM as a whole, from which "nyx '
        'failover" goes on', 'Memory, devices and all disks of the same '
        'moment: into the images, which have to be qcow2, while the VM stands '
        'still; or, with --to, into a directory, while it goes on.')
    vm_argument(parser)
    parser.add_argument('--to', metavar='DIR', help='into this directory, of '
                        'another disk or host; disks of any format are copied '
                        'to it')
    parser.add_argument('--every', metavar='TIME', type=seconds,
                        help='again and again, from beginning to beginning')
    parser.add_argument('--count', metavar='N', type=count,
                        help='with --every: end after so many')
    parser.add_argument('--end', action='store_true', help='hand the VM over: '
                        'stop the guest first, and end QEMU afterwards')
    parser.add_argument('--keep', metavar='N', type=count, default=2,
                        help='so many complete ones (default: 2)')
