# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A disk with a GUID partition table and one partition, for a firmware.

UEFI 2.10, chapter 5. The partition is an EFI system partition.
"""

import struct
import uuid
import zlib

SECTOR = 512
FIRST = 2048                    # sector of the partition
ENTRIES, ENTRY_SIZE = 128, 128
TABLE_SECTORS = ENTRIES * ENTRY_SIZE // SECTOR
ESP_TYPE = uuid.UUID('c12a7328-f81f-11d2-ba4b-00a0c93ec93b')
HEADER = struct.Struct('<8sIIIIQQQQ16sQIII')


def _protective_mbr(sectors):
    entry = struct.pack('<B3sB3sII', 0, b'\0\2\0', 0xee, b'\xff\xff\xff', 1,
                        sectors - 1)
    return bytes(446) + entry + bytes(48) + b'\x55\xaa'


def _header(disk, here, there, sectors, table_at, table):
    def pack(crc):
        return HEADER.pack(
            b'EFI PART', 0x10000, HEADER.size, crc, 0, here, there,
            TABLE_SECTORS + 2, sectors - TABLE_SECTORS - 2, disk, table_at,
            ENTRIES, ENTRY_SIZE, zlib.crc32(table))
    return pack(zlib.crc32(pack(0))).ljust(SECTOR, b'\0')


def sectors_for(size):
    """Of a disk with a partition of so many bytes."""
    return FIRST + size // SECTOR + TABLE_SECTORS + 1


def write_table(file, size):
    """Write all but the partition's content, for one of so many bytes."""
    sectors = sectors_for(size)
    last = sectors - 1
    entry = ESP_TYPE.bytes_le + uuid.uuid4().bytes_le + struct.pack(
        '<QQQ72s', FIRST, FIRST + size // SECTOR - 1, 0,
        'EFI System Partition'.encode('utf-16-le'))
    table = entry.ljust(ENTRIES * ENTRY_SIZE, b'\0')
    disk = uuid.uuid4().bytes_le
    file.truncate(sectors * SECTOR)
    file.seek(0)
    file.write(_protective_mbr(sectors))
    file.write(_header(disk, 1, last, sectors, 2, table) + table)
    file.seek((last - TABLE_SECTORS) * SECTOR)
    file.write(table + _header(disk, last, 1, sectors,
                               last - TABLE_SECTORS, table))
