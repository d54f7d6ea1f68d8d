# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Arguments for objects that devices refer to: domains and threads."""

from ..key import properties
from ..schema import BY_NAME
from .option import option


def objects(spec):
    """-object for each domain and thread."""
    words = []
    for kind, name in (('nyx-domain', 'domain'), ('iothread', 'iothread')):
        for entry in spec[name]:
            words += ['-object', option(kind, {
                'id': entry['id'],
                **properties(BY_NAME[name], entry, name)})]
    return words
