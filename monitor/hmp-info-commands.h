/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Initialisers of our "info" commands, included inside the array of HMPCommand
 * in QEMU's monitor/hmp-cmds.c, so without a guard and without includes.
 */
    {
        .name       = "nyx",
        .args_type  = "",
        .params     = "",
        .help       = "show the Nyx IOMMU",
        .cmd        = hmp_info_nyx,
    },
    {
        .name       = "nyx-acpi",
        .args_type  = "",
        .params     = "",
        .help       = "show the ACPI devices of Nyx",
        .cmd        = hmp_info_nyx_acpi,
    },
    {
        .name       = "nyx-devices",
        .args_type  = "device:s?",
        .params     = "[device]",
        .help       = "show the PCI devices behind the Nyx IOMMU",
        .cmd        = hmp_info_nyx_devices,
    },
    {
        .name       = "nyx-domains",
        .args_type  = "",
        .params     = "",
        .help       = "show the isolation domains of the Nyx IOMMU",
        .cmd        = hmp_info_nyx_domains,
    },
    {
        .name       = "nyx-errors",
        .args_type  = "",
        .params     = "",
        .help       = "show the error policy and what it did",
        .cmd        = hmp_info_nyx_errors,
    },
    {
        .name       = "nyx-faults",
        .args_type  = "device:s?",
        .params     = "[device]",
        .help       = "show the latest DMA faults, newest first",
        .cmd        = hmp_info_nyx_faults,
    },
    {
        .name       = "nyx-vcpus",
        .args_type  = "",
        .params     = "",
        .help       = "show how the vCPUs stand",
        .cmd        = hmp_info_nyx_vcpus,
    },
