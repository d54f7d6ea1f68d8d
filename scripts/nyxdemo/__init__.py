# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The demo: a rogue device in a Linux guest, caught, cut off and recovered."""
