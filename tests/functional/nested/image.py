# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The middle guest: the image of every guest, with QEMU and a guest on top.

Linux takes several cpio archives one after the other, so the guest's own comes
first, unchanged, and is at the same time what the innermost guest boots.
"""

import contextlib
import fcntl
import importlib.util
import lzma
import struct
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

from nyxtest.errors import NyxTestError
from nyxtest.image import compile_program, guest_image
from nyxtest.initrd import extended_initrd, files_key, libraries
from nyxtest.paths import GUEST_BUILD, QEMU, ROOT

FOLDER = GUEST_BUILD / 'nested'         # in it, a folder for each kernel
FIRMWARE = ('bios-256k.bin', 'kvmvapic.bin', 'linuxboot_dma.bin', 'pvh.bin')
PROGRAMS = ('nyx-nvme-vf',)
# Parts of Python's library that no script of ours has a use for
PYTHON_UNUSED = ('__pycache__', 'dist-packages', 'ensurepip', 'idlelib',
                 'lib2to3', 'pydoc_data', 'test', 'tkinter', 'turtledemo')


def _unpacked_kernel(bzimage):
    """The ELF image inside a bzImage, or None if it is packed otherwise.

    See "The real-mode kernel header" in the kernel's x86 boot protocol.
    """
    data = bzimage.read_bytes()
    sectors = data[0x1f1] or 4
    offset, length = struct.unpack_from('<II', data, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = data[start:start + length]
    if payload.startswith(b'\xfd7zXZ'):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b'\x28\xb5\x2f\xfd'):
        # The kernel's own size of the image follows the packed one.
        return subprocess.run(['zstd', '-dcq'], input=payload[:-4], check=True,
                              capture_output=True).stdout
    return None


def _vmlinux(image, folder):
    """The kernel without packing, which saves the time to unpack it."""
    target = folder / 'vmlinux'
    if target.exists() and \
            target.stat().st_mtime > image.kernel.stat().st_mtime:
        return target
    data = _unpacked_kernel(image.kernel)
    if data is None or not data.startswith(b'\x7fELF'):
        return image.kernel
    new = target.with_suffix('.new')
    new.write_bytes(data)
    new.rename(target)
    return target


def _stripped(program):
    """A copy without what only a debugger wants."""
    target = FOLDER / program.name
    stamp = FOLDER / f'{program.name}.sha256'
    key = files_key({'': program})
    if target.exists() and stamp.exists() and stamp.read_text() == key:
        return target
    stamp.unlink(missing_ok=True)
    new = target.with_suffix('.new')
    subprocess.run(['strip', '-o', str(new), str(program)], check=True)
    new.rename(target)
    stamp.write_text(key)
    return target


def _firmware(name):
    out = subprocess.run([str(QEMU), '-L', 'help'], check=True, text=True,
                         capture_output=True).stdout
    for folder in out.split('\n'):
        if folder and (Path(folder) / name).exists():
            return Path(folder) / name
    raise NyxTestError(f'QEMU finds no firmware {name}; install seabios and '
                       'qemu-system-data.')


def _scripts():
    """The nyx command, and a Python to run it."""
    python = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path('stdlib'))
    files = {'usr/bin/python3': python}
    for path in library.rglob('*'):
        inside = path.relative_to(library)
        if path.is_file() and not set(PYTHON_UNUSED) & set(inside.parts) and \
                not inside.parts[0].startswith('config-'):
            files[str(path).lstrip('/')] = path
    # qemu.qmp imports ssl, which wants libraries of its own.
    for program in (python, *library.glob('lib-dynload/_ssl.*')):
        for name in libraries(program):
            files[name.lstrip('/')] = Path(name)
    files['nyx/scripts/nyx'] = ROOT / 'scripts' / 'nyx'
    scripts = ROOT / 'scripts'
    for path in (scripts / 'nyxcli').rglob('*.py'):
        files[f'nyx/scripts/{path.relative_to(scripts)}'] = path
    # From where Debian's package has it, to where Python always looks.
    qmp = Path(importlib.util.find_spec('qemu.qmp').origin).parent
    for path in qmp.glob('*.py'):
        files[f'{str(library).lstrip("/")}/qemu/qmp/{path.name}'] = path
    return files


def _files(vmlinux, image):
    """Name in the middle guest -> file here."""
    program = _stripped(QEMU)
    files = {'nyx/qemu': program, 'nyx/vmlinux': vmlinux,
             'nyx/initrd': image.initrd, **_scripts()}
    for name in PROGRAMS:
        files[f'bin/{name}'] = compile_program(name)
    for name in FIRMWARE:
        files[f'nyx/firmware/{name}'] = _firmware(name)
    for path in libraries(program):
        files[path.lstrip('/')] = Path(path)
    return files


@contextlib.contextmanager
def _locked():
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / 'lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def nested_image(module=None):
    """The middle guest with QEMU: GuestImage, to boot with 2 GiB at least.

    module: as for guest_image().
    """
    image = guest_image(module)
    with _locked():
        try:
            folder = FOLDER / image.release
            folder.mkdir(exist_ok=True)
            vmlinux = _vmlinux(image, folder)
            initrd = extended_initrd(folder / 'initrd', image.initrd,
                                     _files(vmlinux, image))
        except (OSError, subprocess.SubprocessError) as err:
            raise NyxTestError(f'the nested guest image cannot be made: {err}; '
                               'make room on the disk or install what is '
                               'named, and try again.') from err
    return replace(image, kernel=vmlinux, initrd=initrd)
