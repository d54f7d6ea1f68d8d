# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The guest: Debian's kernel, and an initramfs with busybox made on the spot.

Everything is below build/guest and made once; each step leaves its result
under its final name only when it is whole, so an interrupted one starts anew.
Where the usual kernel lacks a module, the newest that apt knows may have it:
that image is in build/guest/newest.
"""

import contextlib
import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from . import packages
from .cpio import CpioWriter
from .errors import NyxTestError
from .modules import ModuleTree
from .paths import GUEST_BUILD, GUEST_SOURCES, ROOT

PROGRAMS = ('nyx-load', 'nyx-play', 'nyx-dma', 'nyx-vfio')
SCRIPTS = ('agent', 'load-modules', 'loop', 'fetch')
NEWEST = GUEST_BUILD / 'newest'
OPTIONAL = ' optional'          # after a module that a kernel may lack


@dataclass(frozen=True)
class GuestImage:
    kernel: Path
    initrd: Path
    release: str        # of the kernel, as uname -r says it
    modules: frozenset = frozenset()    # that are in it


def say(text):
    print(f'guest image: {text}', file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(folder):
    """One process at a time works on the image."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / 'lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def package(home, name_start, choose):
    """The package kept from earlier, or a fresh download.

    choose(apt) names what to download.
    """
    folder = home / 'packages'
    folder.mkdir(exist_ok=True)
    kept = sorted(folder.glob(f'{name_start}*.deb'))
    if kept:
        return kept[-1]
    apt = packages.Apt(folder)
    name = choose(apt)
    say(f'fetching {name}')
    return apt.fetch(name)


def _wanted_modules():
    lines = (GUEST_SOURCES / 'modules').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def _load_orders(tree, wanted):
    """Module -> what to insert for it; without optional ones it lacks."""
    orders = {}
    for line in wanted:
        name = line.removesuffix(OPTIONAL)
        if name == line or name in tree:
            orders[name] = tree.load_order(name)
    return orders


def _write_linux(deb, wanted, target):
    """Unpack the kernel package and keep what the guest needs in target."""
    scratch = target.with_name('linux.unpacking')
    shutil.rmtree(scratch, ignore_errors=True)
    say(f'unpacking {deb.name}')
    packages.unpack(deb, scratch)
    lib = scratch / 'lib'
    if not lib.is_dir():
        lib = scratch / 'usr' / 'lib'
    folder = next((lib / 'modules').iterdir())
    tree = ModuleTree(folder)
    result = target.with_name('linux.new')
    shutil.rmtree(result, ignore_errors=True)
    result.mkdir()
    orders = _load_orders(tree, wanted)
    for name in {part for order in orders.values() for part in order}:
        (result / f'{name}.ko').write_bytes(tree.data[name])
    shutil.copy(next(scratch.glob('boot/vmlinuz-*')), result / 'vmlinuz')
    about = {'package': deb.name, 'release': folder.name, 'wanted': wanted,
             'orders': orders}
    (result / 'about.json').write_text(json.dumps(about, indent=1))
    shutil.rmtree(scratch)
    shutil.rmtree(target, ignore_errors=True)
    result.rename(target)


def _linux(home, choose):
    """The directory with kernel and modules, and what about.json says."""
    deb = package(home, 'linux-image-', choose)
    wanted = _wanted_modules()
    target = home / 'linux'
    about = target / 'about.json'
    if about.exists():
        known = json.loads(about.read_text())
        if known['package'] == deb.name and known.get('wanted') == wanted:
            return target, known
    _write_linux(deb, wanted, target)
    return target, json.loads(about.read_text())


def busybox():
    """The program; the caller has locked GUEST_BUILD."""
    deb = package(GUEST_BUILD, 'busybox-static_', lambda _: 'busybox-static')
    folder = GUEST_BUILD / 'busybox'
    for place in ('bin/busybox', 'usr/bin/busybox'):
        if (folder / place).exists():
            return folder / place
    shutil.rmtree(folder, ignore_errors=True)
    packages.unpack(deb, folder)
    return busybox()


def compile_program(name):
    """Compile one of the guest's own programs, statically."""
    source = GUEST_SOURCES / f'{name}.c'
    target = GUEST_BUILD / 'bin' / name
    if target.exists() and target.stat().st_mtime > source.stat().st_mtime:
        return target
    target.parent.mkdir(exist_ok=True)
    say(f'compiling {source.name}')
    new = target.with_name(f'{name}.new')
    done = subprocess.run(['cc', '-static', '-O2', '-Wall', '-Werror',
                           '-I', str(ROOT / 'include'), '-o', str(new),
                           str(source)],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise NyxTestError(f'{source} does not compile: '
                           f'{done.stderr.strip()}')
    new.rename(target)
    return target


def agent_files(linux, orders):
    """What the agent needs, with the modules of orders from the folder linux:
    name in the initramfs -> (content, mode).
    """
    files = {'init': ((GUEST_SOURCES / 'init').read_bytes(), 0o755),
             'bin/busybox': (busybox().read_bytes(), 0o755)}
    for name in SCRIPTS:
        files[f'bin/{name}'] = ((GUEST_SOURCES / name).read_bytes(), 0o755)
    for name, order in orders.items():
        text = ''.join(f'{part}.ko\n' for part in order)
        files[f'lib/modules/{name}.load'] = (text.encode(), 0o644)
        for part in order:
            files[f'lib/modules/{part}.ko'] = (
                (linux / f'{part}.ko').read_bytes(), 0o644)
    return files


def _inputs(linux, about):
    """All that goes into the initramfs of every guest."""
    files = agent_files(linux, about['orders'])
    for name in PROGRAMS:
        files[f'bin/{name}'] = (compile_program(name).read_bytes(), 0o755)
    return files


def write_initrd(files, target):
    """An initramfs of files, name there -> (content, mode), and busybox."""
    applets = subprocess.run([str(busybox()), '--list'], check=True, text=True,
                             capture_output=True).stdout.split()
    new = target.with_suffix('.new')
    with new.open('wb') as file:
        cpio = CpioWriter(file)
        for name in ('dev', 'proc', 'sys', 'run', 'tmp', 'mnt', 'bin', 'lib'):
            cpio.directory(name)
        cpio.symlink('sbin', 'bin')
        cpio.char_device('dev/console', 5, 1)
        for name, (data, mode) in files.items():
            cpio.file(name, data, mode)
        for applet in applets:
            if f'bin/{applet}' not in files:
                cpio.symlink(f'bin/{applet}', 'busybox')
        cpio.close()
    new.rename(target)


def _initrd(home, linux, about):
    files = _inputs(linux, about)
    digest = hashlib.sha256()
    for name, (data, _) in sorted(files.items()):
        digest.update(name.encode() + b'\0' + data)
    target = home / 'initrd'
    stamp = home / 'initrd.sha256'
    if target.exists() and stamp.exists() and \
            stamp.read_text() == digest.hexdigest():
        return target
    say('writing the initramfs')
    stamp.unlink(missing_ok=True)
    write_initrd(files, target)
    stamp.write_text(digest.hexdigest())
    return target


def _make(home, choose):
    with locked(GUEST_BUILD):
        try:
            home.mkdir(exist_ok=True)
            linux, about = _linux(home, choose)
            initrd = _initrd(home, linux, about)
        except OSError as err:
            raise NyxTestError(
                f'the guest image cannot be made: {err}; make room on the '
                'disk or install what is named, and try again.') from err
        return GuestImage(linux / 'vmlinuz', initrd, about['release'],
                          frozenset(about['orders']))


def guest_image(module=None):
    """Make what is missing of the guest image, and return it.

    With a module that the usual kernel lacks, the image is one with the newest
    kernel there is; NyxTestError if that lacks it as well.
    """
    image = _make(GUEST_BUILD, packages.Apt.kernel_package)
    if module is None or module in image.modules:
        return image
    newest = _make(NEWEST, packages.Apt.newest_kernel_package)
    if module in newest.modules:
        return newest
    raise NyxTestError(f'neither Linux {image.release} nor {newest.release} '
                       f'of Debian has the module {module}; delete {NEWEST} '
                       'to look for a newer one.')
