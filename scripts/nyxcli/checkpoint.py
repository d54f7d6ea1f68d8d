# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx checkpoint: the whole VM, again and again, for another host to go on.

A checkpoint is an internal snapshot: memory, devices and disks of the same
moment. QEMU enters it into the list of an image when all of it is written, so
that one of which the VM died is in no list, or not in that of each disk.
"""

import re
import time

from .errors import Gone, NyxError
from .options import command, vm_argument
from .output import print_json
from .run.stop import end
from .units import bytes_text, count, seconds
from .vm import connect

PREFIX = 'checkpoint-'
TAG = re.compile(PREFIX + r'(\d{8}-\d{6}\.\d{3})')
JOB_SECONDS = 600
LOOK_SECONDS = 0.1
END_SECONDS = 120


def new_tag():
    """Tags sort by time, which is UTC: hosts may be in different zones."""
    now = time.time()
    stamp = time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))
    return f'{PREFIX}{stamp}.{int(now * 1000) % 1000:03}'


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


def _run_job(vm, name, what, **arguments):
    """A job from its beginning to its end; NyxError with its own error."""
    job = f'nyx-{name}-{time.monotonic_ns()}'
    vm.execute(name, job_id=job, **arguments)
    limit = time.monotonic() + JOB_SECONDS
    while time.monotonic() < limit:
        info = [each for each in vm.execute('query-jobs', _seconds=JOB_SECONDS)
                if each['id'] == job]
        if info and info[0]['status'] == 'concluded':
            vm.execute('job-dismiss', id=job)
            if 'error' in info[0]:
                raise NyxError(f'{what} failed: '
                               f'{info[0]["error"].rstrip(".")}.')
            return
        time.sleep(LOOK_SECONDS)
    raise NyxError(f'{what} takes longer than {JOB_SECONDS} s.')


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
    _run_job(vm, 'snapshot-save', f'checkpoint {tag} of {vm.name}', tag=tag,
             vmstate=names[0], devices=names)
    took = time.monotonic() - began
    nodes = _disks(vm)
    for old in _stale(nodes, keep):
        _run_job(vm, 'snapshot-delete', f'deleting checkpoint {old}', tag=old,
                 devices=names)
    size = _on_all(nodes)[tag]['vm-state-size']
    return {'vm': vm.name, 'checkpoint': tag, 'seconds': round(took, 3),
            'vm-state-bytes': size}


def hand_over(vm, keep):
    """The last one, after which the guest does no more, and QEMU ends.

    On an error the guest goes on.
    """
    running = vm.execute('query-status')['running']
    vm.execute('stop')
    try:
        about = take(vm, keep)
    except NyxError:
        if running:
            vm.execute('cont')
        raise
    if not end(vm, True, END_SECONDS):
        raise NyxError(f'{vm.name} has not ended within {END_SECONDS} s after '
                       f'{about["checkpoint"]}; its guest stands still, so '
                       'end that QEMU by force.')
    return {**about, 'ended': True}


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
                about = (hand_over if options.end else take)(vm,
                                                             options.keep)
        except Gone as err:
            raise Gone(f'{err} What it had completed before can be gone on '
                       'from with "nyx failover".') from err
        if options.json:
            print_json(about)
        else:
            ended = f'; {about["vm"]} has ended' if options.end else ''
            print(f'{about["checkpoint"]}: '
                  f'{bytes_text(about["vm-state-bytes"])} in '
                  f'{about["seconds"]:.1f} s{ended}', flush=True)
        left = None if left is None else left - 1
        if left != 0:
            time.sleep(max(0, began + options.every - time.monotonic()))


def add(commands):
    """Add the subcommand."""
    parser = command(
        commands, 'checkpoint', _run, 'save a VM as a whole, from which "nyx '
        'failover" goes on', 'Memory, devices and all disks, which have to be '
        'qcow2, of the same moment, into the images. The VM stands still '
        'while its memory is written.')
    vm_argument(parser)
    parser.add_argument('--every', metavar='TIME', type=seconds,
                        help='again and again, from beginning to beginning')
    parser.add_argument('--count', metavar='N', type=count,
                        help='with --every: end after so many')
    parser.add_argument('--end', action='store_true', help='hand the VM over: '
                        'stop the guest first, and end QEMU afterwards')
    parser.add_argument('--keep', metavar='N', type=count, default=2,
                        help='so many complete ones (default: 2)')
