# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Load in a Linux guest: fio on disks, pktgen on network cards.

Both tell by the guest's clock what a request, or a packet, took.
"""

import json
import re
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
FIO_RUNTIME = '500ms'


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


def fio(vm, disk, size, depth):
    """Nanoseconds for each request of so many bytes, depth of them at once."""
    text = vm.agent.check(
        f'fio --name=reads --filename={disk} --rw=randread --bs={size} '
        f'--iodepth={depth} --ioengine=libaio --direct=1 --thread '
        f'--time_based --runtime={FIO_RUNTIME} --gtod_reduce=1 '
        '--output-format=json', 300)
    reads = json.loads(text[text.index('{'):])['jobs'][0]['read']
    return reads['runtime'] * 1e6 / reads['total_ios']


def flood(vm, interface, packets):
    """Nanoseconds for each packet that a card sends."""
    proc = '/proc/net/pktgen'
    settings = f'count {packets}', 'delay 0', f'pkt_size {FRAME_BYTES}', \
        'dst 10.9.9.9', 'dst_mac 52:54:00:09:09:09'
    vm.agent.check(f'echo rem_device_all >{proc}/kpktgend_0 && '
                   f'echo add_device {interface} >{proc}/kpktgend_0')
    for setting in settings:
        vm.agent.check(f'echo {setting} >{proc}/{interface}')
    vm.agent.check(f'echo start >{proc}/pgctrl', 300)
    text = vm.agent.check(f'cat {proc}/{interface}')
    result = re.search(r'OK: (\d+)\(', text)
    if not result:
        raise NyxTestError(f'pktgen has no result for {interface}: {text}')
    return int(result[1]) * 1000 / packets
