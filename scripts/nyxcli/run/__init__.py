# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx run and nyx stop."""

from .command import add

__all__ = ['add']
