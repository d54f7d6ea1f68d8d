# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The manual page nyx(1), from the command line itself."""

import re

from .words import commands

HEAD = r'''.\" SPDX-License-Identifier: GPL-2.0-or-later
.\" Made from the command line of nyx; see scripts/nyxcli/manpage.py.
.TH NYX 1 "" "Nyx" "User Commands"
.SH NAME
nyx \- run and watch virtual machines whose devices are confined
.SH SYNOPSIS
.B nyx
.I COMMAND
.RI [ options ]
.SH DESCRIPTION
.B nyx
starts virtual machines of the machine type nyx-pc from a short description,
shows which isolation domain each of their PCI devices is in, what the devices
did that they may not, and cuts devices off or lets them work again.
.PP
A running VM is named by its name, by the name of a libvirt domain, or by the
path of a QMP socket. Where only one runs, it need not be named.
.PP
Tables are coloured on a terminal and plain text elsewhere;
.B \-\-json
prints what QMP returned, for programs. Sizes take K, M, G and T (of 1024),
times ms, s, min, h and d.
.SH COMMANDS
'''
TAIL = r'''.SH EXIT STATUS
.TP
.B 0
All went well.
.TP
.B 1
An error, which one sentence on standard error names with its remedy;
.B check
and
.B migrate verify
have found one;
.B report
had no answer from a VM.
.TP
.B 2
The command line is wrong.
.TP
.B 130
Ctrl-C.
.SH ENVIRONMENT
.TP
.B NYX_RUN_DIR
Where running VMs are found, instead of those below.
.TP
.B NYX_STATE_DIR
Where that is kept which outlives VMs, instead of /var/lib/nyx or
.IR $XDG_STATE_HOME/nyx .
.TP
.B NYX_QEMU
The QEMU that
.B nyx run
starts, instead of the one that came with
.BR nyx .
.TP
.B LIBVIRT_DEFAULT_URI
The libvirt that is asked for domains; see
.BR virsh (1).
.SH FILES
.TP
.IR /run/nyx/ VM /
Of a VM of root: qmp.sock, metrics.sock, events.sock, console.sock, qemu.pid,
spec.json, log. Others have
.IR $XDG_RUNTIME_DIR/nyx .
.TP
.I /var/lib/nyx
The UEFI variables and TPM of each VM of root, and, in reports, its last
report. Others have
.IR $XDG_STATE_HOME/nyx .
.TP
.I /etc/default/nyx
.B NYX_REPORT_MAIL
is where the systemd timer nyx-report.timer mails the daily report to,
.B NYX_CHECKPOINT_EVERY
how often the unit nyx-checkpoint@VM.service takes a checkpoint.
.SH EXAMPLES
.TP
.B nyx devices
The devices of the only VM that runs.
.TP
.B nyx quarantine nic0 \-\-vm web \-\-reason 'floods the bus'
Cut a network card of the VM web off.
.TP
.B nyx faults web \-\-follow
What devices do that they may not, as it happens.
.TP
.B nyx migrate start \-\-vm web tcp:otherhost:4444
Move the VM to where a QEMU waits for it.
.TP
.B nyx report \-\-mail root
The health of all VMs, with what is new since the last report.
.SH SEE ALSO
.BR qemu-system-x86_64 (1),
.BR virsh (1),
.BR systemd.timer (5);
the manual of Nyx, docs/nyx.
'''


def _escape(text):
    text = text.replace('\\', r'\e').replace('-', r'\-').replace('%%', '%')
    return re.sub(r"(?m)^([.'])", r'\\&\1', text)


def _value(action):
    if action.choices:
        return '{' + '|'.join(str(each) for each in action.choices) + '}'
    return action.metavar or action.dest.upper()


def _word(action):
    """How an argument or option is written, in bold and italic."""
    if not action.option_strings:
        word = rf'\fI{_escape(_value(action))}\fR'
        return {'?': f'[{word}]', '*': f'[{word}...]', '+': f'{word}...'} \
            .get(action.nargs, word)
    names = ', '.join(rf'\fB{_escape(name)}\fR'
                      for name in action.option_strings)
    if action.nargs == 0:
        return names
    return rf'{names} \fI{_escape(_value(action))}\fR'


def _described(action):
    if not action.help:
        return ''
    help_text = action.help % {'default': action.default,
                               'prog': 'nyx'} if '%(' in action.help \
        else action.help
    return f'.TP\n{_word(action)}\n{_escape(help_text)}.\n'


def _section(command):
    name = ' '.join(command.path)
    synopsis = ' '.join([rf'\fBnyx {_escape(name)}\fR',
                         '[options]' if command.options() else '',
                         *map(_word, command.arguments())])
    text = command.parser.description or command.help
    text = text if text.rstrip().endswith('.') else text.rstrip() + '.'
    # The option that all have is told of once.
    options = [action for action in command.options()
               if action.dest != 'json']
    return f'.SS {_escape(name)}\n{synopsis.replace("  ", " ")}\n.PP\n' \
        f'{_escape(text.strip())}\n' + \
        ''.join(map(_described, [*command.arguments(), *options]))


def page(parser):
    """All of it, in roff."""
    sections = [_section(command) for command in commands(parser)
                if command.path and not command.actions()]
    return HEAD + ''.join(sections) + TAIL
