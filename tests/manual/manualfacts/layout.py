# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The files of the IOMMU, as the architecture names them."""

import re

from . import compare
from .pages import tables
from .paths import ROOT

WHERE = 'architecture.rst'
FILE = re.compile(r'``([a-z0-9-]+)``')


def files(pages, _program, _schema):
    """In the second table; stubs are for other targets."""
    rows = list(tables(pages[WHERE].section('In the source')))[1]
    shown = {name for row in rows for name in FILE.findall(' '.join(row))}
    folder = ROOT / 'hw' / 'iommu-nyx'
    real = {path.stem for path in folder.glob('*.c')
            if 'stub' not in path.stem}
    real |= {path.stem for path in folder.glob('*.h') if path.stem in shown}
    return compare.names('file of hw/iommu-nyx', shown - {'query-stats'},
                         real, WHERE)


CHECKS = (files,)
