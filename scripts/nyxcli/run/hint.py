# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What somebody may have meant."""

import difflib


def did_you_mean(word, words):
    """'; did you mean "x"?', or nothing when no word is close."""
    close = difflib.get_close_matches(str(word), list(words), 1, 0.6)
    return f'; did you mean "{close[0]}"?' if close else ''
