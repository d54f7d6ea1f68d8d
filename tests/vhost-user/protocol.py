# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The vhost-user protocol: messages and the numbers in them."""

import array
import enum
import socket
import struct

VERSION = 1
REPLY = 1 << 2
NEED_REPLY = 1 << 3
HEADER = struct.Struct('<III')      # request, flags, size
U64 = struct.Struct('<Q')
RING_STATE = struct.Struct('<II')   # index, number
RING_ADDRESS = struct.Struct('<IIQQQQ')     # index, flags, desc, used, avail
MEMORY_REGION = struct.Struct('<QQQQ')      # gpa, size, user address, offset
IOTLB = struct.Struct('<QQQBB6x')   # iova, size, user address, access, type
MAX_FDS = 16
NO_FD = 1 << 8                      # in SET_VRING_KICK and its like


class Request(enum.IntEnum):
    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    SET_MEM_TABLE = 5
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SET_BACKEND_REQ_FD = 21
    IOTLB_MSG = 22
    GET_CONFIG = 24
    SET_CONFIG = 25


BACKEND_IOTLB_MSG = 1               # from the backend to QEMU


class Feature(enum.IntFlag):
    BLK_SEG_MAX = 1 << 2
    BLK_BLK_SIZE = 1 << 6
    BLK_FLUSH = 1 << 9
    PROTOCOL_FEATURES = 1 << 30
    VERSION_1 = 1 << 32
    IOMMU_PLATFORM = 1 << 33


class ProtocolFeature(enum.IntFlag):
    MQ = 1 << 0
    REPLY_ACK = 1 << 3
    BACKEND_REQ = 1 << 5
    CONFIG = 1 << 9


class IotlbType(enum.IntEnum):
    MISS = 1
    UPDATE = 2
    INVALIDATE = 3


READ = 1
WRITE = 2


class Closed(Exception):
    """The other side has closed the connection."""


def receive(sock, size, fds):
    """So many bytes; descriptors that come along are added to fds."""
    data = b''
    while len(data) < size:
        room = socket.CMSG_SPACE(MAX_FDS * array.array('i').itemsize)
        part, ancillary, _, _ = sock.recvmsg(size - len(data), room)
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers = array.array('i')
                numbers.frombytes(payload)
                fds += numbers
        if not part:
            raise Closed
        data += part
    return data


def receive_message(sock):
    """The next message: request, flags, payload, descriptors."""
    fds = []
    request, flags, size = HEADER.unpack(receive(sock, HEADER.size, fds))
    payload = receive(sock, size, fds) if size else b''
    return request, flags, payload, fds


def send_message(sock, request, flags, payload):
    sock.sendall(HEADER.pack(request, VERSION | flags, len(payload)) + payload)
