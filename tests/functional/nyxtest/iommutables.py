# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""ACPI tables that describe an IOMMU, taken apart: DMAR, IVRS, VIOT.

Requester IDs are numbers: bus << 8 | device << 3 | function.
"""

import struct
from dataclasses import dataclass, field

HEADER = 36


def requester(bus, device, function):
    return bus << 8 | device << 3 | function


def parse_address(text):
    """0000:00:1f.2 as a requester ID"""
    _, bus, rest = text.split(':')
    device, function = rest.split('.')
    return requester(int(bus, 16), int(device, 16), int(function))


def _check(table, signature):
    name, length = struct.unpack_from('<4sI', table)
    if name.decode() != signature or length != len(table):
        raise ValueError(f'{name} of {length} bytes is no {signature} of '
                         f'{len(table)}')
    if sum(table) % 256:
        raise ValueError(f'the checksum of {signature} is wrong')


def _pieces(table, start, end, head):
    """(type, bytes) of structures that begin as head unpacks: type, length."""
    while start < end:
        kind, length = struct.unpack_from(head, table, start)
        if length < struct.calcsize(head) or start + length > end:
            raise ValueError(f'a structure at {start} ends outside its table')
        yield kind, table[start:start + length]
        start += length


# VT-d specification, chapter "BIOS Considerations"

SCOPE_ENDPOINT, SCOPE_BRIDGE, SCOPE_IOAPIC = 1, 2, 3


@dataclass
class Dmar:
    address_bits: int
    interrupt_remapping: bool
    x2apic_opt_out: bool
    base: int = None            # of the registers
    include_all: bool = False
    # scope type -> requester IDs; of an IOAPIC (its ID, requester ID)
    scopes: dict = field(default_factory=dict)
    ats_all_ports: bool = False


def _scopes(data):
    found = {}
    for kind, scope in _pieces(data, 0, len(data), '<BB'):
        number, bus = scope[4], scope[5]
        if len(scope) != 8:
            raise ValueError('a path of more than one step')
        where = requester(bus, scope[6], scope[7])
        found.setdefault(kind, set()).add(
            (number, where) if kind == SCOPE_IOAPIC else where)
    return found


def parse_dmar(table):
    _check(table, 'DMAR')
    width, flags = struct.unpack_from('<BB', table, HEADER)
    dmar = Dmar(width + 1, bool(flags & 1), bool(flags & 2))
    for kind, part in _pieces(table, 48, len(table), '<HH'):
        if kind == 0 and dmar.base is None:
            dmar.include_all = bool(part[4] & 1)
            dmar.base, = struct.unpack_from('<Q', part, 8)
            dmar.scopes = _scopes(part[16:])
        elif kind == 2:
            dmar.ats_all_ports = bool(part[4] & 1)
        else:
            raise ValueError(f'unexpected structure of type {kind}')
    return dmar


# AMD I/O Virtualization Technology specification, "I/O Virtualization ACPI"

@dataclass
class Ivhd:
    requester: int              # of the IOMMU's PCI function
    capability: int             # offset in its configuration space
    base: int                   # of the registers
    selected: set = field(default_factory=set)
    ranges: set = field(default_factory=set)        # (first, last)
    aliases: set = field(default_factory=set)       # (first, last, alias)
    ioapics: set = field(default_factory=set)       # (ID, requester ID)


def _ivhd_entries(ivhd, data):
    start = 0
    begun = None                # range whose end is to come
    while start < len(data):
        kind, device = struct.unpack_from('<BH', data, start)
        if kind == 2:
            ivhd.selected.add(device)
        elif kind == 3:
            begun = ivhd.ranges, (device,)
        elif kind == 4:
            found, (first, *rest) = begun
            found.add((first, device, *rest))
            begun = None
        elif kind == 0x43:
            alias, = struct.unpack_from('<H', data, start + 5)
            begun = ivhd.aliases, (device, alias)
        elif kind == 0x48 and data[start + 7] == 1:
            where, = struct.unpack_from('<H', data, start + 5)
            ivhd.ioapics.add((data[start + 4], where))
        else:
            raise ValueError(f'unexpected entry of type {kind:#x}')
        start += 8 if kind >= 0x40 else 4
    if begun:
        raise ValueError('a range has no end')


def parse_ivrs(table):
    """Blocks by their type: 0x10, 0x11"""
    _check(table, 'IVRS')
    blocks = {}
    # Their header has the flags between type and length.
    start = HEADER + 12
    while start < len(table):
        kind, _, length, device, capability, base = struct.unpack_from(
            '<BBHHHQ', table, start)
        if length < 24 or start + length > len(table):
            raise ValueError(f'a block at {start} ends outside its table')
        ivhd = Ivhd(device, capability, base)
        head = 24 if kind == 0x10 else 40
        _ivhd_entries(ivhd, table[start + head:start + length])
        blocks[kind] = ivhd
        start += length
    return blocks


# ACPI specification, "Virtual I/O Translation Table"

@dataclass
class Viot:
    requester: int = None       # of the virtio-iommu
    # (first endpoint, first and last segment, first and last requester ID)
    ranges: set = field(default_factory=set)


def parse_viot(table):
    _check(table, 'VIOT')
    count, first = struct.unpack_from('<HH', table, HEADER)
    nodes = list(_pieces(table, first, len(table), '<BxH'))
    if len(nodes) != count:
        raise ValueError(f'{len(nodes)} nodes where there are to be {count}')
    viot = Viot()
    iommu = None
    start = first
    for kind, node in nodes:
        if kind == 3:
            segment, viot.requester = struct.unpack_from('<HH', node, 4)
            if segment:
                raise ValueError(f'virtio-iommu in segment {segment}')
            iommu = start
        elif kind == 1:
            endpoint, seg0, seg1, bdf0, bdf1, output = struct.unpack_from(
                '<IHHHHH', node, 4)
            if output != iommu:
                raise ValueError('a range leads to no virtio-iommu')
            viot.ranges.add((endpoint, seg0, seg1, bdf0, bdf1))
        else:
            raise ValueError(f'unexpected node of type {kind}')
        start += len(node)
    return viot
