# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Numbers as people write and read them."""

import argparse
import re

SUFFIXES = {'': 1, 'k': 1 << 10, 'm': 1 << 20, 'g': 1 << 30, 't': 1 << 40}
NUMBER = re.compile(r'(0x[0-9a-f]+|\d+)([kmgt]?)(?:i?b)?', re.I)
UINT64_MAX = (1 << 64) - 1


def number(text):
    """An address or size: decimal or 0x..., with K, M, G, T of 1024."""
    match = NUMBER.fullmatch(text.strip())
    value = None
    if match:
        digits, suffix = match.groups()
        value = int(digits, 0) * SUFFIXES[suffix.lower()]
    if value is None or value > UINT64_MAX:
        raise argparse.ArgumentTypeError(
            f'"{text}" is no address or size; write it like 4096, 0x1000, '
            '64K or 2M')
    return value


def count(text):
    """A number of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'"{text}" is no number of 0 or more')
    return int(text)


def seconds(text):
    """A time: seconds, or with ms, s, min, h, d."""
    match = re.fullmatch(r'(\d+(?:\.\d+)?)(ms|s|min|m|h|d|)', text.strip())
    if not match:
        raise argparse.ArgumentTypeError(
            f'"{text}" is no time; write it like 5, 500ms, 10min or 24h')
    factor = {'ms': 0.001, 's': 1, '': 1, 'min': 60, 'm': 60, 'h': 3600,
              'd': 86400}
    return float(match.group(1)) * factor[match.group(2)]


def bytes_text(size):
    """With the largest unit that keeps it above 1."""
    for unit in ('B', 'KiB', 'MiB', 'GiB'):
        if abs(size) < 1024:
            break
        size /= 1024
    else:
        unit = 'TiB'
    return f'{size:.0f} {unit}' if size == int(size) else f'{size:.1f} {unit}'


def clock_text(nanoseconds):
    """A time of the VM's clock: seconds since it was created."""
    return f'{nanoseconds / 1e9:.3f} s'


def rate_text(per_second):
    """A rate in three digits or so."""
    for unit in ('', 'k', 'M'):
        if per_second < 1000:
            break
        per_second /= 1000
    else:
        unit = 'G'
    return f'{per_second:.0f}{unit}' if per_second >= 100 or \
        per_second == int(per_second) else f'{per_second:.1f}{unit}'
