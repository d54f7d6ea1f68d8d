# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Virtual machines with a real Linux guest, for tests and for the demo."""
