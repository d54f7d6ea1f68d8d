# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Where manual, sources and program are."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
MANUAL = ROOT / 'docs' / 'nyx'
QEMU = Path(os.environ.get('QTEST_QEMU_BINARY',
                           ROOT / 'build' / 'qemu-system-x86_64')).resolve()
