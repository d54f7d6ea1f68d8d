# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Disks that UEFI boots: Debian's signed shim, GRUB and kernel on a GPT disk.

The packages are fetched once, to build/guest/packages, and never installed.
"""

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import gpt, packages
from .errors import NyxTestError
from .image import agent_files, locked, package, say, write_initrd
from .paths import GUEST_BUILD

SIGNED = ('shim-signed', 'grub-efi-amd64-signed')
SHIM = 'usr/lib/shim/shimx64.efi.signed'
GRUB = 'usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed'
MODULES = ('virtio_pci', 'virtio_blk', 'nvme', 'ahci', 'sd_mod', 'sr_mod',
           'virtio_iommu')
MIB = 1 << 20
ESP_MIB = 72

# A text in each file, one bit of which is changed to break its signature: the
# file would do its work all the same.
TEXTS = {'shim': 'Verification failed'.encode('utf-16-le'),
         'grub': b'Welcome to GRUB!', 'kernel': b'debian-kernel@'}


@dataclass(frozen=True)
class BootFiles:
    """Files of one boot chain, each a path."""
    shim: Path
    grub: Path
    kernel: Path
    initrd: Path

    def data(self, part):
        return getattr(self, part).read_bytes()

    def tampered(self, part):
        """What is in 'shim', 'grub' or 'kernel', with one bit changed."""
        data = bytearray(self.data(part))
        at = data.find(TEXTS[part])
        if at < 0:
            raise NyxTestError(f'{getattr(self, part)} has no text '
                               f'{TEXTS[part]} that could be changed.')
        data[at] ^= 1
        return bytes(data)


def _signed():
    """The folder with the signed programs; GUEST_BUILD is locked."""
    debs = [package(GUEST_BUILD, f'{name}_', lambda _, name=name: name)
            for name in SIGNED]
    folder = GUEST_BUILD / 'signed'
    stamp = folder / 'packages'
    text = ''.join(f'{deb.name}\n' for deb in debs)
    if not stamp.exists() or stamp.read_text() != text:
        shutil.rmtree(folder, ignore_errors=True)
        for deb in debs:
            say(f'unpacking {deb.name}')
            packages.unpack(deb, folder)
        stamp.write_text(text)
    return folder


def _small_initrd(image):
    """A firmware reads and measures slowly, so with few modules."""
    linux = image.kernel.parent
    orders = json.loads((linux / 'about.json').read_text())['orders']
    files = agent_files(linux, {name: orders[name] for name in MODULES
                                if name in orders})
    digest = hashlib.sha256()
    for name, (data, _) in sorted(files.items()):
        digest.update(name.encode() + b'\0' + data)
    target = linux.parent / 'small-initrd'
    stamp = linux.parent / 'small-initrd.sha256'
    if not target.exists() or not stamp.exists() or \
            stamp.read_text() != digest.hexdigest():
        stamp.unlink(missing_ok=True)
        write_initrd(files, target)
        stamp.write_text(digest.hexdigest())
    return target


def boot_files(image):
    """The BootFiles with the kernel of a GuestImage."""
    with locked(GUEST_BUILD):
        signed = _signed()
        return BootFiles(signed / SHIM, signed / GRUB, image.kernel,
                         _small_initrd(image))


def _mtools(command, *words, **more):
    try:
        subprocess.run([command, *map(str, words)], check=True,
                       capture_output=True, **more)
    except FileNotFoundError as err:
        raise NyxTestError(f'{command} is missing; install the package '
                           'mtools.') from err
    except subprocess.CalledProcessError as err:
        raise NyxTestError(f'{command}: {err.stderr.decode()}') from err


def write_disk(path, files):
    """A disk with these files, name -> content, on its system partition."""
    folders = sorted({str(parent) for name in files
                      for parent in Path(name).parents} - {'.'})
    with path.open('wb') as file:
        gpt.write_table(file, ESP_MIB * MIB)
    esp = f'{path}@@{gpt.FIRST * gpt.SECTOR}'
    _mtools('mformat', '-i', esp, '-F', '-T',
            ESP_MIB * MIB // gpt.SECTOR, '-h', 16, '-s', 63, '-H', gpt.FIRST,
            '::')
    for folder in folders:
        _mtools('mmd', '-i', esp, f'::{folder}')
    for name, data in files.items():
        _mtools('mcopy', '-i', esp, '-', f'::{name}', input=data)
