# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Enumerations of our QAPI schema; introspection does not tell their names."""

import re

from .paths import ROOT

ENUM = re.compile(r"\{\s*'enum':\s*'(\w+)',.*?'data':\s*\[(.*?)\]", re.S)
# As part of QEMU's tree the schema is beside its own.
FOLDERS = ROOT / 'qapi', ROOT.parent / 'qapi'
VALUE = re.compile(r"'([a-z0-9-]+)'")


def enums_of(*files):
    """{name: [values]} of files of qapi/."""
    found = {}
    for name in files:
        path = next(folder / name for folder in FOLDERS
                    if (folder / name).exists())
        text = re.sub(r'#.*', '', path.read_text())
        found.update((enum, VALUE.findall(data))
                     for enum, data in ENUM.findall(text))
    return found


def enum(name):
    return enums_of('nyx.json', 'nyx-types.json')[name]
