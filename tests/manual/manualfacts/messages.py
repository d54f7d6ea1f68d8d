# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The errors and warnings in our C source."""

import re

from .paths import ROOT

FOLDERS = 'hw', 'net', 'migration', 'monitor', 'accel'
# error_append_hint() and error_prepend() are only parts of a message.
CALL = re.compile(r'\b(?:error_set(?:g|g_errno)?|error_report|warn_report'
                  r'|error_report_once|warn_report_once)\s*\(')
STRINGS = re.compile(r'(?:\s*(?:"(?:[^"\\]|\\.)*"|PRI\w+))+')
# In "stage1...." the last three are what differs.
ANY = re.compile(r'\.\.\.(?!\.)')
PART = re.compile(r'"((?:[^"\\]|\\.)*)"|PRI\w+')
CONVERSION = re.compile(r'%[-0-9.*#]*(?:l|ll|z|h)?[a-zA-Z]?')


def sources():
    """Our C files that are part of QEMU for x86_64, so without stubs."""
    return sorted(path for folder in FOLDERS if (ROOT / folder).is_dir()
                  for path in (ROOT / folder).rglob('*.c')
                  if 'stub' not in path.stem)


def _text(strings):
    """The message, with "..." for what is filled in."""
    parts = [part[1] for part in PART.finditer(strings) if part[1]]
    return CONVERSION.sub('...', ''.join(parts)).replace('\\"', '"')


def messages():
    """[(message, file and line)] of all that our source says."""
    found = []
    for path in sources():
        source = path.read_text()
        for call in CALL.finditer(source):
            end = source.find(';', call.end())
            start = source.find('"', call.end(), end)
            if start < 0:
                continue
            text = _text(STRINGS.match(source, start)[0])
            if re.search('[a-z]', text):
                line = source.count('\n', 0, call.start()) + 1
                found.append((text, f'{path.relative_to(ROOT)}:{line}'))
    return found


def matches(shown, message):
    """Whether shown, in which "..." is any text, is this message."""
    pattern = '.*'.join(map(re.escape, ANY.split(shown)))
    return re.fullmatch(pattern, message, re.S) is not None


def in_program(program, shown):
    """Whether each piece of shown is a text of the program's file."""
    return all(piece.encode() in program for piece in pieces(shown))


def pieces(shown):
    """What of shown is in a format string as it is."""
    return [piece for piece in ANY.split(shown) if len(piece.strip()) > 3]
