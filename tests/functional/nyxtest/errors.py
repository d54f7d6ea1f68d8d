# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What can go wrong, each in one sentence for the reader."""


class NyxTestError(Exception):
    """The machinery of the tests cannot do its work."""


class GuestTimeout(NyxTestError):
    """The guest did not answer in time."""


class GuestDied(NyxTestError):
    """QEMU ended, or the guest's kernel panicked."""
