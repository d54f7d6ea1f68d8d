# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The pages of the manual, as far as they are tables, literals and lines."""

import re

from .paths import MANUAL

RULE = re.compile(r'=+(?: +=+)+$')
TITLE = re.compile(r'([=\-^~"])\1+$')
LITERAL = re.compile(r'``(.+?)``')


class Page:
    def __init__(self, path):
        self.name = str(path.relative_to(MANUAL))
        self.lines = path.read_text().splitlines()

    def section(self, title):
        """The lines under a title, up to the next one of its kind or above."""
        for number, line in enumerate(self.lines[:-1]):
            if line == title and TITLE.match(self.lines[number + 1]):
                break
        else:
            raise KeyError(f'{self.name} has no section "{title}"')
        mark, start = self.lines[number + 1][0], number + 2
        for end in range(start + 1, len(self.lines)):
            line = self.lines[end]
            if line and TITLE.match(line) and line[0] in ('=', mark) and \
                    ' ' not in line and self.lines[end - 1].strip():
                return self.lines[start:end - 1]
        return self.lines[start:]


def tables(lines):
    """Each simple table of these lines, as rows of cells, its head left out.

    A row without a first cell goes on with the row above; a rule before an
    empty line, or the end, ends the table.
    """
    spans, rows = None, []
    for line, after in zip(lines, [*lines[1:], '']):
        if RULE.match(line):
            if spans and not after.strip():
                yield rows
                spans, rows = None, []
            else:
                spans, rows = [m.span() for m in re.finditer('=+', line)], []
        elif spans and line.strip():
            _add_row(rows, line, [start for start, _ in spans])


def _add_row(rows, line, starts):
    cells = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None])]
    if cells[0] or not rows:
        rows.append(cells)
    else:
        rows[-1] = [f'{one} {more}'.strip()
                    for one, more in zip(rows[-1], cells)]


def literals(text):
    return LITERAL.findall(text)


def first_literals(rows):
    """What the rows of a table are about."""
    return [name for row in rows for name in literals(row[0])]


def all_pages():
    return {page.name: page for page in
            map(Page, sorted(MANUAL.rglob('*.rst')))}


def shown_messages(pages):
    """Messages that the manual explains, with where: [(text, page, line)].

    They are the literals of a line that has nothing before them.
    """
    for page in pages.values():
        for number, line in enumerate(page.lines, 1):
            match = re.fullmatch(r'``([^`]+)``', line)
            if match:
                yield match[1], page.name, number
