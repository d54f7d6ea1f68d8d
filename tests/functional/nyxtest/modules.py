# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Choose kernel modules from an unpacked Debian kernel package."""

import lzma
import re
import subprocess

from .errors import NyxTestError

DEPENDS = re.compile(rb'\0depends=([^\0]*)\0')


def plain_name(text):
    """The kernel's own spelling of a module's name."""
    return re.sub(r'\.ko(\.(xz|gz|zst))?$', '',
                  text.rsplit('/', 1)[-1]).replace('-', '_')


def read_module(path):
    """Content of a module file as insmod wants it."""
    data = path.read_bytes()
    if path.suffix == '.xz':
        return lzma.decompress(data)
    if path.suffix == '.zst':
        return subprocess.run(['zstd', '-dc', str(path)], check=True,
                              capture_output=True).stdout
    return data


class ModuleTree:
    """The modules of one kernel, read from the package's directory."""

    def __init__(self, folder):
        self._files = {plain_name(p.name): p
                       for p in folder.glob('kernel/**/*.ko*')}
        self._builtin = {plain_name(line) for line in
                         (folder / 'modules.builtin').read_text().split()}
        self.data = {}

    def __contains__(self, name):
        return name in self._files or name in self._builtin

    def load_order(self, name):
        """Modules to insert for this one, in order, itself last."""
        order = []
        self._visit(plain_name(name), order)
        return order

    def _visit(self, name, order):
        if name in order or name in self._builtin:
            return
        if name not in self._files:
            raise NyxTestError(f'the Debian kernel has no module {name}; '
                               'correct tests/functional/guest/modules.')
        for other in self._depends(name):
            self._visit(plain_name(other), order)
        order.append(name)

    def _depends(self, name):
        if name not in self.data:
            self.data[name] = read_module(self._files[name])
        match = DEPENDS.search(self.data[name])
        text = match.group(1).decode() if match else ''
        return [word for word in text.split(',') if word]
