# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Load in a Linux guest: fio on disks, pktgen on network cards.

Both tell by the guest's clock what a request, or a packet, took.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / 'tests/functional'))

# pylint: disable=C0413
from nyxtest.errors import NyxTestError                 # noqa: E402
from nyxtest.image import guest_image, locked           # noqa: E402
from nyxtest.initrd import extended_initrd, libraries   # noqa: E402
from nyxtest.paths import BUILD                         # noqa: E402

FOLDER = BUILD / 'guest' / 'bench'
FRAME_BYTES = 64
WARM_UP_PACKETS = 1000
# fio looks only each 100 ms whether a job has ended, which takes it 40 ms in a
# guest: with both times it is just seen by the third look.
FIO = ('fio --name=global --rw=randread --ioengine=libaio --direct=1 --thread '
       '--time_based --ramp_time=50ms --runtime=200ms --gtod_reduce=1 '
       '--output-format=json')


def image():
    """The GuestImage with fio."""
    program = shutil.which('fio')
    if not program:
        raise NyxTestError('fio is missing; install the package fio, or pass '
                           '--no-guests.')
    files = {'bin/fio': Path(program).resolve(),
             **{name.lstrip('/'): Path(name) for name in libraries(program)}}
    plain = guest_image()
    with locked(FOLDER):
        try:
            return replace(plain, initrd=extended_initrd(
                FOLDER / 'initrd', plain.initrd, files))
        except (OSError, subprocess.SubprocessError) as err:
            raise NyxTestError(f'the guest image with fio cannot be made: '
                               f'{err}.') from err


def _nanoseconds(job):
    """For each request of a job of fio."""
    reads = job['read']
    if not reads['total_ios']:
        raise NyxTestError(f'fio has read nothing in time: {job["jobname"]}.')
    return reads['runtime'] * 1e6 / reads['total_ios']


def fio(vm, reads):
    """Reads of a kind after the other: name -> nanoseconds for each request.

    The kinds are name -> (disk, bytes, how many requests at once). One fio
    does them all, as its start takes a guest longer than some of them.
    """
    jobs = [f'--name={shlex.quote(name)} --stonewall --filename={disk} '
            f'--bs={size} --iodepth={depth}'
            for name, (disk, size, depth) in reads.items()]
    text = vm.agent.check(' '.join([FIO, *jobs]), 300)
    return {job['jobname']: _nanoseconds(job)
            for job in json.loads(text[text.index('{'):])['jobs']}


def flood(vm, interface, packets):
    """Nanoseconds for each packet that a card sends."""
    settings = 'delay 0', f'pkt_size {FRAME_BYTES}', 'dst 10.9.9.9', \
        'dst_mac 52:54:00:09:09:09'
    commands = ['set -e', 'cd /proc/net/pktgen',
                'echo rem_device_all >kpktgend_0',
                f'echo add_device {interface} >kpktgend_0',
                *(f'echo {setting} >{interface}' for setting in settings)]
    for count in WARM_UP_PACKETS, packets:
        commands += [f'echo count {count} >{interface}', 'echo start >pgctrl']
    text = vm.agent.check('\n'.join([*commands, f'cat {interface}']), 300)
    result = re.search(r'OK: (\d+)\(', text)
    if not result:
        raise NyxTestError(f'pktgen has no result for {interface}: {text}')
    return int(result[1]) * 1000 / packets
