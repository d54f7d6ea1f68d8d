# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What Nyx changes in QEMU's source tree: edits, as data, and links to us."""

import difflib
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What the assembled tree takes from us: name in the tree -> path in this
# repository. "nyx" is the whole of it.
LINKS = {
    'nyx': '.',
    'qapi/nyx.json': 'qapi/nyx.json',
    'qapi/nyx-acpi.json': 'qapi/nyx-acpi.json',
    'qapi/nyx-errors.json': 'qapi/nyx-errors.json',
    'qapi/nyx-metrics.json': 'qapi/nyx-metrics.json',
    'qapi/nyx-types.json': 'qapi/nyx-types.json',
    'qapi/nyx-vcpus.json': 'qapi/nyx-vcpus.json',
}


class AssembleError(Exception):
    """One sentence for the user."""


def load_edits(path):
    """Return the edits of a TOML file, grouped by the file they change."""
    by_file = {}
    for number, edit in enumerate(tomllib.loads(path.read_text())['edit'], 1):
        actions = [key for key in ('after', 'before', 'replace') if key in edit]
        if len(actions) != 1 or not {'file', 'why', 'anchor'} <= edit.keys():
            raise AssembleError(
                f'{path}: edit {number} needs file, why, anchor and exactly '
                'one of after, before, replace.')
        by_file.setdefault(edit['file'], []).append(edit)
    return by_file


def apply_edit(text, edit):
    """Return text with one edit applied; its anchor must match once."""
    anchor = edit['anchor']
    found = text.count(anchor)
    if found != 1:
        raise AssembleError(
            f"{edit['file']}: the anchor {anchor.strip()!r} ({edit['why']}) "
            f'occurs {found} times instead of once in this QEMU release; '
            'adapt upstream/edits.toml.')
    if 'replace' in edit:
        return text.replace(anchor, edit['replace'])
    if 'after' in edit:
        return text.replace(anchor, anchor + edit['after'])
    return text.replace(anchor, edit['before'] + anchor)


def touched_lines(old, new):
    """Count the lines of a released file that an edit adds or changes."""
    matcher = difflib.SequenceMatcher(
        None, old.splitlines(), new.splitlines(), autojunk=False)
    return sum(max(i2 - i1, j2 - j1)
               for tag, i1, i2, j1, j2 in matcher.get_opcodes()
               if tag != 'equal')


def write_if_changed(path, text):
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def apply_edits(tree, pristine, by_file):
    """Bring every edited file of the tree up to date; return lines, files."""
    new_texts = {}
    lines = 0
    for name, edits in by_file.items():
        original = pristine / name
        source = original if original.exists() else tree / name
        if not source.is_file():
            raise AssembleError(f'{name}: no such file in this QEMU release.')
        old = new = source.read_text()
        for edit in edits:
            new = apply_edit(new, edit)
        lines += touched_lines(old, new)
        new_texts[name] = (old, new)

    # An edit that is gone gives its file back.
    for original in [p for p in pristine.rglob('*') if p.is_file()]:
        name = str(original.relative_to(pristine))
        if name not in new_texts:
            write_if_changed(tree / name, original.read_text())

    for name, (old, new) in new_texts.items():
        original = pristine / name
        original.parent.mkdir(parents=True, exist_ok=True)
        write_if_changed(original, old)
        write_if_changed(tree / name, new)
    return lines, len(new_texts)
