# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Tables for people, JSON for programs."""

import json


def table(titles, rows):
    """Text with columns as wide as they need be."""
    lines = [[str(cell) for cell in row] for row in [titles, *rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width
                               in zip(line, widths)).rstrip()
                     for line in lines)


def print_json(data):
    print(json.dumps(data, indent=2))
