# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
#
# Sphinx configuration of the manual; scripts/build-docs runs Sphinx with it.
# The reference of QMP comes from the schema, through QEMU's own extensions.

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
QEMU = ROOT / 'qemu-source'

sys.path[:0] = [str(QEMU / 'docs/sphinx'), str(QEMU / 'scripts'),
                str(ROOT / 'docs/sphinx'), str(ROOT / 'scripts')]

project = 'Nyx'
author = 'Nyx contributors'
copyright = '2026, Nyx contributors'

extensions = ['qapi_domain', 'qapidoc', 'qmp_lexer', 'specreference']
qapidoc_srctree = str(QEMU)
# The schema's `single backticks` refer to its own commands and types.
default_role = 'any'

root_doc = 'index'
language = 'en'
html_theme = 'sphinx_rtd_theme'
html_theme_options = {'navigation_depth': 2}
html_show_sourcelink = False

# References that lead nowhere are errors; QAPI's built-in types are described
# in QEMU's own documentation.
nitpicky = True
nitpick_ignore = [('qapi:type', name)
                  for name in ('boolean', 'int', 'string')]
