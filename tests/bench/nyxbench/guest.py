# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What a Linux guest gets: disks that answer at once, packets sent, a boot.

Machines are compared by pairs of guests that live at the same time and take
turns, so that what else the host does hits them alike. A boot may make a guest
faster or slower for all its life, so each pair is booted more than once, and
compared within each boot.
"""

import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from .guestvm import Guest

PAIRS = [('q35', 'nyx pass-through'),
         ('q35 intel-iommu, lazy', 'nyx intel, lazy'),
         ('q35 intel-iommu, strict', 'nyx intel, strict'),
         ('nyx pass-through', 'nyx irq-coalescing')]
BOOTS, ROUNDS = 3, 2
# No goal depends on it.
BOOTED_ONCE = PAIRS[-1]
BOOT = 'boot to userland'


def _alternately(pair, turn):
    """Each of the two is first by turns, so that neither gains from it."""
    return pair[::-1] if turn % 2 else pair


def _run(guests, pair, boot):
    """Rounds of a boot: (operation, contender) -> nanoseconds of each."""
    rounds = {}
    for name in _alternately(pair, boot):
        rounds[BOOT, name] = [guests[name].start()]
    for turn in range(ROUNDS):
        for name in _alternately(pair, turn):
            for op, ns in guests[name].turn().items():
                rounds.setdefault((op, name), []).append(ns)
    return rounds


def _boot(pair, boot, folder):
    """Start both guests, compare them, and stop them."""
    guests = {name: Guest(name, folder / f'boot{boot}') for name in pair}
    try:
        return _run(guests, pair, boot)
    finally:
        for guest in guests.values():
            guest.stop()


def _add(points, suite, pair, op, boots):
    """A point for each of the two; boots is a list of what _run() gave."""
    for name in pair:
        rounds = [boot[op, name] for boot in boots]
        points.add({'suite': suite, 'pair': pair[1], 'contender': name,
                    'op': op, 'ns': [ns for each in rounds for ns in each],
                    'boots': [statistics.median(each) for each in rounds]})


def _compare(points, pair, folder, count):
    boots = []
    for boot in range(count):
        print(f'  {" and ".join(pair)}: boot {boot + 1} of {count}',
              file=sys.stderr)
        boots.append(_boot(pair, boot, folder))
    if pair == PAIRS[0]:
        _add(points, 'boot', pair, BOOT, boots)
    for op in dict.fromkeys(op for op, _ in boots[0] if op != BOOT):
        _add(points, 'guest', pair, op, boots)


def measure(points, quick):
    """Linux guests under TCG; KVM runs none on every machine."""
    folder = Path(tempfile.mkdtemp(prefix='nyx-bench-'))
    try:
        print('guests:', file=sys.stderr)
        for pair in PAIRS[:1] if quick else PAIRS:
            once = quick or pair == BOOTED_ONCE
            _compare(points, pair, folder, 1 if once else BOOTS)
    finally:
        shutil.rmtree(folder)
