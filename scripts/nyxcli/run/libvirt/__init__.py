# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The description of a VM for libvirt."""


def domain_xml(spec, host):
    raise NotImplementedError
