# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Write a cpio archive in the "newc" format that Linux takes as initramfs."""

import stat


class CpioWriter:
    """Files, links, directories and device nodes, all of them root's.

    No privilege is needed: a device node is only an entry in the archive.
    """

    def __init__(self, file):
        self._file = file
        self._inode = 0
        self._directories = set()

    def _entry(self, name, mode, data=b'', device=(0, 0)):
        encoded = name.encode() + b'\0'
        self._inode += 1
        fields = [self._inode, mode, 0, 0, 1, 0, len(data), 0, 0,
                  device[0], device[1], len(encoded), 0]
        self._put(b'070701' + b''.join(b'%08X' % f for f in fields) + encoded)
        self._put(data)

    def _put(self, data):
        self._file.write(data)
        self._file.write(b'\0' * (-len(data) % 4))

    def directory(self, name):
        """Add a directory and those above it, once each."""
        parts = name.strip('/').split('/')
        for depth in range(1, len(parts) + 1):
            path = '/'.join(parts[:depth])
            if path and path not in self._directories:
                self._directories.add(path)
                self._entry(path, stat.S_IFDIR | 0o755)

    def _parent(self, name):
        if '/' in name:
            self.directory(name.rsplit('/', 1)[0])

    def file(self, name, data, mode=0o644):
        self._parent(name)
        self._entry(name, stat.S_IFREG | mode, data)

    def symlink(self, name, target):
        self._parent(name)
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def char_device(self, name, major, minor):
        self._parent(name)
        self._entry(name, stat.S_IFCHR | 0o600, device=(major, minor))

    def close(self):
        self._inode = -1
        self._entry('TRAILER!!!', 0)
