# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A kernel with iommufd and mtty for the host, built from Debian's kernel source.

It takes minutes, so nothing but build-kernel does it; tests that need the
kernel are skipped until then.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import unittest
from dataclasses import replace
from pathlib import Path

from nyxtest import packages
from nyxtest.errors import NyxTestError

from .image import FOLDER, nested_image

CONFIG = Path(__file__).with_name('iommufd.config')
RESULT = FOLDER / 'iommufd' / 'vmlinux'
OLDEST = (6, 7)                 # VFIO with iommufd; mtty that migrates
SHOW_EVERY = 50                 # steps of the build


def iommufd_image():
    """The middle guest with that kernel; unittest.SkipTest if there is none."""
    if not RESULT.exists():
        raise unittest.SkipTest(
            'no kernel with iommufd: none of Debian has it; build one from '
            'its source with tests/functional/nested/build-kernel')
    return replace(nested_image(), kernel=RESULT, modules=frozenset())


def _source_package():
    """Name of Debian's newest kernel source."""
    out = subprocess.run(['apt-cache', 'search', '--names-only',
                          r'^linux-source-[0-9.]+$'], text=True, check=True,
                         capture_output=True).stdout
    versions = [tuple(map(int, version.split('.'))) for version in
                re.findall(r'^linux-source-([\d.]+) ', out, re.M)]
    newest = max(versions, default=(0,))
    if newest < OLDEST:
        raise NyxTestError('apt knows no kernel source that is new enough; add '
                           'the backports of your Debian release to the '
                           'sources of apt, and run "apt-get update".')
    return 'linux-source-' + '.'.join(map(str, newest))


def _run(*command, **options):
    """A step that says nothing; NyxTestError with its last words."""
    done = subprocess.run(command, capture_output=True, text=True,
                          errors='replace', check=False, **options)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise NyxTestError(f'"{command[0]}" failed ({said[-1:]}); install what '
                           'it names (flex, bison, bc, libelf-dev), or make '
                           'room on the disk.')


def _compile(source, output):
    """Build with a line of progress every so many steps."""
    _run('make', '-s', '-C', str(source), f'O={output}', 'allnoconfig',
         env={**os.environ, 'KCONFIG_ALLCONFIG': str(CONFIG)})
    with subprocess.Popen(['make', '-C', str(source), f'O={output}',
                           f'-j{os.cpu_count()}', 'vmlinux'], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          errors='replace') as process:
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if len(lines) % SHOW_EVERY == 0:
                print(f'build-kernel: {len(lines)} steps', flush=True)
    if process.returncode:
        raise NyxTestError(f'the kernel does not build: {lines[-1]}; install '
                           'what it names (flex, bison, bc, libelf-dev).')


def build():
    """Build the kernel; returns its path."""
    folder = RESULT.parent
    folder.mkdir(parents=True, exist_ok=True)
    package = _source_package()
    print(f'build-kernel: fetching {package}', flush=True)
    deb = packages.Apt(folder).fetch(package)
    scratch = folder / 'build'
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        packages.unpack(deb, scratch)
        deb.unlink()
        archive = next(scratch.glob('usr/src/*.tar.*'))
        _run('tar', '-xf', str(archive), '-C', str(scratch))
        archive.unlink()
        source = next(scratch.glob('linux-source-*'))
        _compile(source, scratch / 'output')
        new = RESULT.with_suffix('.new')
        _run('strip', '-o', str(new), str(scratch / 'output' / 'vmlinux'))
        new.rename(RESULT)
    return RESULT


def main():
    try:
        print(f'build-kernel: {build()}')
    except (NyxTestError, OSError, subprocess.SubprocessError) as err:
        sys.exit(f'build-kernel: {err}')
    except KeyboardInterrupt:
        sys.exit(130)
