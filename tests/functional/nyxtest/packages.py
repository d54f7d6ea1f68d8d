# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Fetch and unpack Debian packages without installing them.

Needs no privilege. When the machine's package lists are missing or too old,
fresh ones are fetched into a folder of our own; the machine's stay as they are.
"""

import re
import subprocess

from .errors import NyxTestError

KERNEL = 'linux-image-amd64'
# Of one version, without a flavour (cloud, rt) and signed.
KERNEL_VERSION = re.compile(r'^linux-image-(\d+\.[^-]+(-\d+)?)-amd64$', re.M)


class Apt:
    """apt with the machine's sources, and folder for what it downloads."""

    def __init__(self, folder):
        self._folder = folder
        self._options = ['-o', 'APT::Sandbox::User=', '-o',
                         'Acquire::Retries=3']
        self._own_lists = False

    def _run(self, *command):
        return subprocess.run([command[0], '-qq', *self._options,
                               *command[1:]], cwd=self._folder, text=True,
                              capture_output=True, check=False)

    def _use_own_lists(self):
        """Fetch package lists into our folder and use them from now on."""
        lists = self._folder / 'lists'
        (lists / 'partial').mkdir(parents=True, exist_ok=True)
        self._options += ['-o', f'Dir::State::lists={lists}',
                          '-o', 'Dir::Cache::pkgcache=',
                          '-o', 'Dir::Cache::srcpkgcache=']
        self._own_lists = True
        self._run('apt-get', 'update')

    def kernel_package(self):
        """Name of the package that linux-image-amd64 stands for today."""
        out = self._run('apt-cache', 'depends', KERNEL).stdout
        found = re.search(r'Depends: (linux-image-\S+)', out)
        if found:
            return found.group(1)
        if not self._own_lists:
            self._use_own_lists()
            return self.kernel_package()
        raise NyxTestError(f'apt cannot find the package {KERNEL}; check the '
                           'network and the sources below /etc/apt.')

    def newest_kernel_package(self):
        """Name of the kernel with the highest version that apt knows."""
        out = self._run('apt-cache', 'pkgnames', 'linux-image-').stdout
        names = [match.group(0) for match in KERNEL_VERSION.finditer(out)]
        if names:
            return max(names, key=lambda name: [
                int(word) for word in re.findall(r'\d+', name)])
        if not self._own_lists:
            self._use_own_lists()
            return self.newest_kernel_package()
        raise NyxTestError('apt cannot find any Debian kernel; check the '
                           'network and the sources below /etc/apt.')

    def missing(self, *packages):
        """Names of these and of what they need, but what is installed."""
        done = self._run('apt-get', '--simulate',
                         '--no-install-recommends', 'install', *packages)
        if done.returncode == 0:
            return re.findall(r'^Inst (\S+)', done.stdout, re.M)
        if not self._own_lists:
            self._use_own_lists()
            return self.missing(*packages)
        raise NyxTestError(f'apt cannot find {", ".join(packages)}; check the '
                           'network and the sources below /etc/apt.')

    def fetch(self, package):
        """Download a package, checked by apt; returns the file."""
        done = self._run('apt-get', 'download', package)
        found = sorted(self._folder.glob(f'{package}_*.deb'))
        if done.returncode == 0 and found:
            return found[-1]
        if not self._own_lists:
            self._use_own_lists()
            return self.fetch(package)
        why = (done.stderr.strip().splitlines() or ['no reason given'])[-1]
        raise NyxTestError(f'the Debian package {package} cannot be '
                           f'downloaded ({why}); check the network and the '
                           f'free space for {self._folder}.')


def unpack(deb, folder):
    """Unpack a package into folder."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(['dpkg-deb', '--extract', str(deb), str(folder)],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ['no reason given'])[-1]
        raise NyxTestError(f'{deb} cannot be unpacked ({why}); make room on '
                           'the disk, or delete the file to fetch it anew.')
