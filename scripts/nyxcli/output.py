# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Tables for people, JSON for programs."""

import json
import sys

# Cells that a terminal shows in colour
STYLES = {
    'operational': 'green', 'quarantined': 'yellow', 'recovering': 'cyan',
    'failed': 'bold red', 'running': 'green', 'paused': 'yellow',
    'blocked': 'yellow', 'ok': 'green', 'note': 'cyan', 'warning': 'yellow',
    'error': 'bold red', 'unmanaged': 'yellow', 'not answering': 'bold red',
}


def table(titles, rows):
    """Text with columns as wide as they need be."""
    lines = [[str(cell) for cell in row] for row in [titles, *rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width
                               in zip(line, widths)).rstrip()
                     for line in lines)


def rich_table(titles, rows):
    """The same for the rich library, with STYLES."""
    # pylint: disable=import-outside-toplevel
    from rich.table import Table
    from rich.text import Text
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0),
                  header_style='bold')
    for title in titles:
        shown.add_column(title, overflow='fold')
    for row in rows:
        shown.add_row(*(Text(str(cell), STYLES.get(str(cell), ''))
                        for cell in row))
    return shown


def show(titles, rows):
    """Print a table: in colour on a terminal, plain text elsewhere."""
    if sys.stdout.isatty():
        try:
            # pylint: disable=import-outside-toplevel
            from rich.console import Console
        except ImportError:
            pass                    # python3-rich is not installed
        else:
            Console(highlight=False).print(rich_table(titles, rows))
            return
    print(table(titles, rows))


def print_json(data):
    print(json.dumps(data, indent=2))
