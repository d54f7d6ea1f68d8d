# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx run: start a VM from a short description."""

import json
import os
import signal
import sys
import traceback

from ..errors import NyxError
from ..options import command
from ..output import print_json
from .host import Host
from .libvirt import domain_xml
from .logpipe import Terminal
from .loglevels import LEVELS
from .qemu import command as qemu_command
from .script import script
from .signals import Interrupted, Signals
from .spec import load
from .steps import steps
from .supervisor import Supervisor


def _terminal(spec):
    """Where log lines go to beside the log."""
    colour = sys.stderr.isatty() and not os.environ.get('NO_COLOR')
    # The guest has the terminal; only what is wrong may disturb it.
    wanted = LEVELS[:2] if spec['console']['type'] == 'stdio' else LEVELS
    return Terminal(wanted, colour)


def _wait(supervisor, signals, say):
    """Until the VM ends; the first signal asks the guest, the next ends it."""
    asked = False
    while True:
        status = supervisor.wait(signals)
        if status is not None:
            return status
        signals.clear()
        if asked:
            supervisor.kill()
            continue
        asked = True
        say(f'asking the guest of "{supervisor.name}" to shut down; once more '
            'ends the VM at once')
        try:
            supervisor.power_down()
        except NyxError:
            supervisor.kill()


def _supervise(spec, host, terminal, ready):
    """Run the VM from beginning to end; ready() is called in between."""
    supervisor = Supervisor(spec, host, terminal)

    def say(text):
        supervisor.log.say('info', text)
    with Signals() as signals:
        try:
            supervisor.start()
            signals.only_note()
            ready(say)
            _check_status(_wait(supervisor, signals, say), spec, host,
                          supervisor.log)
        except Interrupted:
            raise NyxError(f'starting "{spec["name"]}" was '
                           'interrupted.') from None
        finally:
            supervisor.end()


def _check_status(status, spec, host, log):
    """NyxError, and a line of the log, if QEMU has not ended well."""
    if status == 0:
        return
    why = f': {log.last_words()}' if log.last_words() else ''
    how = f'status {status}' if status > 0 else \
        f'signal {signal.Signals(-status).name}'
    text = f'QEMU of "{spec["name"]}" ended with {how}{why}'
    log.say('error', text)
    raise NyxError(f'{text}; see {host.log}.')


def _foreground(spec, host):
    def ready(say):
        say(f'"{spec["name"]}" runs, by {host.accel.upper()}; Ctrl-C asks the '
            'guest to shut down')
    _supervise(spec, host, _terminal(spec), ready)


def _detached(spec, host):
    """The VM in a process of its own; returns when the guest runs."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        with os.fdopen(read) as answers:
            try:
                answer = answers.read()
            except KeyboardInterrupt:
                os.kill(child, signal.SIGTERM)      # it clears up
                raise
        if answer != 'ready':
            raise NyxError(answer or f'nyx ended while it started '
                           f'"{spec["name"]}".')
        return
    os.close(read)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)

    def answer(text):
        nonlocal write
        if write is not None:
            os.write(write, text.encode())
            os.close(write)
            write = None
    status = 1
    try:
        _supervise(spec, host, None, lambda say: answer('ready'))
        status = 0
    except NyxError as err:
        answer(str(err))
    except BaseException:       # pylint: disable=broad-except
        # There is no terminal to show it on.
        answer('nyx itself failed; please report this: '
               f'{traceback.format_exc()}')
    finally:
        os._exit(status)


def _plan(spec, host):
    """What would be done, for programs."""
    return {'name': spec['name'], 'accel': host.accel,
            'run-directory': str(host.run),
            'state-directory': str(host.state),
            'before': [step.shell() for step in steps(spec, host)],
            'command': qemu_command(spec, host)}


def _show(spec, options):
    """Everything that starts nothing; whether it was asked for."""
    if options.libvirt:
        print(domain_xml(spec, Host(spec)))
    elif options.print and options.json:
        print_json(_plan(spec, Host(spec)))
    elif options.print:
        print(script(spec, Host(spec)))
    elif options.check:
        Host(spec)              # it looks for programs and firmware
        if options.json:
            print_json({'name': spec['name'], 'right': True})
        else:
            print(f'{options.spec} is right.')
    else:
        return False
    return True


def _run(options):
    if options.json and not (options.print or options.check or
                             options.detach):
        raise NyxError('--json goes with --print, --check or --detach.')
    spec = load(options.spec, options.set)
    if _show(spec, options):
        return
    host = Host(spec)
    if not options.detach:
        _foreground(spec, host)
        return
    if spec['console']['type'] == 'stdio':
        raise NyxError('console = "stdio" needs a terminal; leave out '
                       '--detach, or choose another console.')
    _detached(spec, host)
    if options.json:
        print_json(json.loads((host.run / 'spec.json').read_text()))
    else:
        print(f'{spec["name"]} runs; its log is {host.log}')


def add(commands):
    """Add the subcommand."""
    parser = command(commands, 'run', _run, 'start a VM from a short '
                     'description', 'It runs in the foreground, with its log '
                     'on the terminal, unless --detach is given.')
    parser.add_argument('spec', metavar='SPEC.toml', help='the description')
    parser.add_argument('--set', metavar='KEY=VALUE', action='append',
                        default=[], help='another value than the description '
                        'has, as in memory.size=4G or disk.0.file=x.img')
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--detach', action='store_true', help='come back when '
                      'the guest runs')
    what.add_argument('--check', action='store_true', help='only check the '
                      'description')
    what.add_argument('--print', action='store_true', help='print what would '
                      'be done, as a shell script')
    what.add_argument('--libvirt', action='store_true', help='print a '
                      'description for libvirt ("virsh define")')
