# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The command line: each subcommand is a module with add()."""

import argparse
import difflib
import re
import sys

from . import (assign, check, checkpoint, completion, devices, domains, drill,
               dump, failback, failover, faults, host, mapping, metrics,
               migrate, policy, quarantine, report, run, status, top, trace)
from .errors import NyxError
from .run import stop

SUBCOMMANDS = (run, stop, status, devices, domains, faults, assign, mapping,
               quarantine, policy, drill, dump, top, check, report, metrics,
               migrate, checkpoint, failover, failback, trace, host,
               completion)


class Parser(argparse.ArgumentParser):
    """Errors in one sentence, with the nearest word for a wrong one."""

    def error(self, message):
        match = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)",
                          message)
        if match:
            word, choices = match.groups()
            # Python 3.13 leaves the quotes away.
            known = [choice.strip("'") for choice in choices.split(', ')]
            close = difflib.get_close_matches(word, known, 1)
            hint = f'did you mean "{close[0]}"?' if close else \
                f'there are {", ".join(known)}.'
            what = message.split(':')[0].removeprefix('argument ')
            wrong = f'"{word}" cannot be {what}' if what.startswith('-') \
                else f'there is no {what.lower()} "{word}"'
            message = f'{wrong}; {hint}'
        else:
            message = f'{message}; see "{self.prog} --help".'
        print(f'nyx: {message}', file=sys.stderr)
        sys.exit(2)


def parser():
    """The whole command line."""
    top = Parser(prog='nyx', description='Run and watch virtual machines of '
                 'Nyx.', epilog='"nyx COMMAND --help" explains a command. The '
                 'exit status is 0 when all went well, 1 after an error, 2 '
                 'when the command line is wrong.')
    commands = top.add_subparsers(required=True, metavar='COMMAND',
                                  title='commands')
    for module in SUBCOMMANDS:
        module.add(commands)
    return top


def main(arguments=None):
    """Run a command; returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except NyxError as err:
        print(f'nyx: {err}', file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()          # the reader has seen enough
        return 1
    except KeyboardInterrupt:
        return 130
