# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""More files for a guest, in an archive after that of its image.

Linux takes several cpio archives one after the other.
"""

import hashlib
import os
import re
import subprocess

from .cpio import CpioWriter
from .image import say


def libraries(program):
    """What the program loads: absolute names, as it asks for them."""
    out = subprocess.run(['ldd', str(program)], check=True, text=True,
                         capture_output=True).stdout
    return re.findall(r'(/\S+) \(0x', out)


def files_key(files):
    """Changes with any of the files, name -> path."""
    lines = []
    for name, path in sorted(files.items()):
        stat = path.stat()
        lines.append(f'{name} {path} {stat.st_size} {stat.st_mtime_ns}\n')
    return hashlib.sha256(''.join(lines).encode()).hexdigest()


def _write(target, first, files):
    new = target.with_suffix('.new')
    with new.open('wb') as file:
        file.write(first.read_bytes())
        file.write(b'\0' * (-file.tell() % 512))
        cpio = CpioWriter(file)
        for name, path in files.items():
            mode = 0o755 if os.access(path, os.X_OK) else 0o644
            cpio.file(name, path.read_bytes(), mode)
        cpio.close()
    new.rename(target)


def extended_initrd(target, first, files):
    """Make target, the initramfs first with files, name there -> path here.

    The caller sees to it that nobody else does the same.
    """
    stamp = target.with_name(f'{target.name}.sha256')
    key = files_key({**files, '': first})
    if not target.exists() or not stamp.exists() or stamp.read_text() != key:
        say(f'writing {target}')
        stamp.unlink(missing_ok=True)
        _write(target, first, files)
        stamp.write_text(key)
    return target
