# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The command line: subcommands register themselves with their parser."""

import argparse
import sys

from . import host
from .errors import NyxError

SUBCOMMANDS = (host,)


def _parser():
    parser = argparse.ArgumentParser(prog='nyx', description='Run and watch '
                                     'virtual machines of Nyx.')
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    for module in SUBCOMMANDS:
        module.register(commands)
    return parser


def main(arguments=None):
    """Run a command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except NyxError as err:
        print(f'nyx: {err}', file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()          # the reader has seen enough
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
