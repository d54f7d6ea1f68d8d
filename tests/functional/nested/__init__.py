# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A Linux host inside a VM, which passes real PCI functions to a VM of its own.

The outer QEMU emulates the hardware (an IOMMU, SR-IOV devices, AMD's SVM), the
middle guest is the host, and the QEMU that it runs is the one under test.
"""
