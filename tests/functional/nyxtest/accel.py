# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Choose between KVM and TCG by what boots the guest."""

import json
import os
import tempfile
from pathlib import Path

from .errors import NyxTestError
from .paths import GUEST_BUILD, QEMU
from .vm import VM

PROBE_SECONDS = 10
BOOT_ID = Path('/proc/sys/kernel/random/boot_id')


def _boots_under_kvm(image):
    with tempfile.TemporaryDirectory() as folder:
        vm = VM(image, Path(folder), 'kvm', cpus=1, memory='256M')
        vm.machine = 'q35'
        try:
            vm.start(PROBE_SECONDS)
            return True
        except NyxTestError:
            return False
        finally:
            vm.stop()


def _key(image):
    """What the answer depends on; it is asked anew when that changes."""
    return [BOOT_ID.read_text().strip(), image.release, str(QEMU)]


def choose_accel(image):
    """'kvm' or 'tcg', and why: $ACCEL, or what a quick boot has shown."""
    wanted = os.environ.get('ACCEL', '')
    if wanted in ('kvm', 'tcg'):
        return wanted, 'asked for with ACCEL'
    if wanted:
        raise NyxTestError(f'ACCEL={wanted} is unknown; say kvm or tcg.')
    if not os.access('/dev/kvm', os.R_OK | os.W_OK):
        return 'tcg', '/dev/kvm cannot be opened'
    cache = GUEST_BUILD / 'accel.json'
    key = _key(image)
    if cache.exists():
        known = json.loads(cache.read_text())
        if known['key'] == key:
            return known['accel'], known['why']
    if _boots_under_kvm(image):
        answer = 'kvm', 'the guest boots under it'
    else:
        answer = 'tcg', ("a trial boot of the guest under this machine's "
                         'KVM failed')
    cache.write_text(json.dumps({'key': key, 'accel': answer[0],
                                 'why': answer[1]}))
    return answer
