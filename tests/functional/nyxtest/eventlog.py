# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What a firmware says it has measured: the event log of a TPM 2.0.

TCG PC Client Platform Firmware Profile, "Event Logging": a first event in the
format of TPM 1.2 says which banks there are, all others are TCG_PCR_EVENT2.
"""

import hashlib
import struct
from dataclasses import dataclass

EV_NO_ACTION = 3
EV_SEPARATOR = 4
EV_IPL = 0xd
EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003
SIGNATURE = b'Spec ID Event03\0'
ALGORITHMS = {0x4: 'sha1', 0xb: 'sha256', 0xc: 'sha384', 0xd: 'sha512',
              0x12: 'sm3_256'}
FIRST_HEADER = struct.Struct('<II20sI')


@dataclass(frozen=True)
class Event:
    pcr: int
    kind: int
    digests: dict       # of bank -> bytes
    data: bytes


def _sizes(data):
    """Algorithm -> size of a digest, of the first event's data."""
    if not data.startswith(SIGNATURE):
        raise ValueError('the event log is not one of a TPM 2.0')
    count, = struct.unpack_from('<I', data, 24)
    pairs = struct.iter_unpack('<HH', data[28:28 + 4 * count])
    return dict(pairs)


def parse(log):
    """The Events of a log, without the first one."""
    *_, size = FIRST_HEADER.unpack_from(log)
    at = FIRST_HEADER.size + size
    sizes = _sizes(log[FIRST_HEADER.size:at])
    events = []
    while at < len(log):
        pcr, kind, count = struct.unpack_from('<III', log, at)
        at += 12
        digests = {}
        for _ in range(count):
            algorithm, = struct.unpack_from('<H', log, at)
            at += 2
            digests[ALGORITHMS[algorithm]] = log[at:at + sizes[algorithm]]
            at += sizes[algorithm]
        size, = struct.unpack_from('<I', log, at)
        events.append(Event(pcr, kind, digests, log[at + 4:at + 4 + size]))
        at += 4 + size
    return events


def replay(events, bank):
    """The PCRs that a TPM has after these events: number -> hex digits.

    Only of those that were extended.
    """
    values = {}
    for event in events:
        if event.kind != EV_NO_ACTION:
            new = hashlib.new(bank)
            new.update(values.get(event.pcr, bytes(new.digest_size)))
            new.update(event.digests[bank])
            values[event.pcr] = new.digest()
    return {pcr: value.hex().upper() for pcr, value in values.items()}
