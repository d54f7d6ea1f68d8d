/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Initialisers of our "info" commands, included inside the array of HMPCommand
 * in QEMU's monitor/hmp-cmds.c.
 */
