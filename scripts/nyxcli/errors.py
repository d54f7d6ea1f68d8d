# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Errors that end a command with one sentence."""


class NyxError(Exception):
    """What is wrong, and what to do about it."""
