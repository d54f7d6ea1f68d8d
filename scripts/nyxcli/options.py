# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What the command lines of the subcommands have in common."""

import argparse


def command(commands, name, run, text, more=''):
    """A subcommand with --json; run(options) does it."""
    parser = commands.add_parser(
        name, help=text, description=f'{text[0].upper()}{text[1:]}. {more}')
    parser.add_argument('--json', action='store_true',
                        help='print JSON instead of a table')
    parser.set_defaults(run=run)
    return parser


VM_HELP = 'name of the VM or libvirt domain, or path of a QMP socket ' \
          '(default: the only one that runs)'


def vm_option(parser, text=VM_HELP):
    """Options.vm for commands that name something else."""
    parser.add_argument('--vm', metavar='VM', help=text)


def vm_argument(parser):
    """Options.vm for commands about a VM as a whole."""
    vm_option(parser, 'the same')
    # With a default it would overwrite what --vm has set.
    parser.add_argument('vm', metavar='VM', nargs='?',
                        default=argparse.SUPPRESS, help=VM_HELP)


def device_command(commands, name, run, text, more=''):
    """A subcommand about one device: options.device, options.vm, --json."""
    parser = command(commands, name, run, text, more)
    vm_option(parser)
    parser.add_argument('device', metavar='DEVICE')
    return parser
