# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""In which line of a TOML file a key stands, which tomllib does not tell.

The text has been accepted by tomllib, so only what bears on lines is read.
"""

import re

WORD = re.compile(r'[A-Za-z0-9_-]+')
BLANK = re.compile(r'[ \t]+')
SKIP = re.compile(r'(?:[ \t\r\n]+|#[^\n]*)+')
TEXT = re.compile(r"'''.*?'''+|\"\"\"(?:\\.|.)*?\"\"\"+"
                  r"|'[^'\n]*'|\"(?:\\.|[^\"\\\n])*\"", re.S)
OTHER = re.compile(r'[^,\]}\n#\[{\'"=]+')


class Positions:
    """line(path): where a key is; path has names, and numbers in lists."""

    def __init__(self, text):
        self._text = text
        self._at = 0
        self._lines = {}
        self._counts = {}
        self._table = ()
        while self._skip():
            if self._text[self._at] == '[':
                self._header()
            else:
                self._pair(self._table)

    def line(self, path):
        """Line, from 1, of the longest known beginning of a path."""
        path = tuple(path)
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _note(self, path):
        line = self._text.count('\n', 0, self._at) + 1
        self._lines.setdefault(path, line)

    def _skip(self):
        """Over blanks, line ends and comments; whether text is left."""
        match = SKIP.match(self._text, self._at)
        if match:
            self._at = match.end()
        return self._at < len(self._text)

    def _blanks(self):
        match = BLANK.match(self._text, self._at)
        if match:
            self._at = match.end()

    def _name(self):
        """One part of a key, bare or quoted."""
        match = WORD.match(self._text, self._at) or \
            TEXT.match(self._text, self._at)
        self._at = match.end()
        self._blanks()
        return match.group().strip('"\'')

    def _names(self):
        names = [self._name()]
        while self._text[self._at] == '.':
            self._at += 1
            self._blanks()
            names.append(self._name())
        return names

    def _resolve(self, names):
        """Names as a path, with the number of the last entry of each list."""
        path = ()
        for name in names:
            path += (name,)
            if path in self._counts:
                path += (self._counts[path] - 1,)
        return path

    def _header(self):
        many = self._text.startswith('[[', self._at)
        start = self._at
        self._at += 2 if many else 1
        self._blanks()
        names = self._names()
        end = self._at + (2 if many else 1)
        self._at = start
        path = self._resolve(names[:-1]) + (names[-1],)
        if many:
            number = self._counts.get(path, 0)
            self._counts[path] = number + 1
            self._note(path)
            path += (number,)
        else:
            path = self._resolve(names)
        self._note(path)
        self._table = path
        self._at = end

    def _pair(self, table):
        start = self._at
        names = self._names()
        after = self._at + 1        # the sign "="
        self._at = start
        path = table
        for name in names:
            path += (name,)
            self._note(path)
        self._at = after
        self._blanks()
        self._value(path)

    def _value(self, path):
        char = self._text[self._at]
        if char in '[{':
            self._at += 1
            self._items(path, ']' if char == '[' else '}')
            return
        match = TEXT.match(self._text, self._at) or \
            OTHER.match(self._text, self._at)
        self._at = match.end()

    def _items(self, path, end):
        number = 0
        while self._skip() and self._text[self._at] != end:
            if self._text[self._at] == ',':
                self._at += 1
            elif end == '}':
                self._pair(path)
            else:
                self._note(path + (number,))
                self._value(path + (number,))
                number += 1
        self._at += 1
