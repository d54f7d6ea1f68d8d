# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Where things are; the environment may say otherwise."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BUILD = Path(os.environ.get('NYX_BUILD', ROOT / 'build')).resolve()
QEMU = Path(os.environ.get('QEMU', BUILD / 'qemu-system-x86_64'))
GUEST_SOURCES = ROOT / 'tests' / 'functional' / 'guest'
GUEST_BUILD = BUILD / 'guest'
LOGS = BUILD / 'tests' / 'functional'
