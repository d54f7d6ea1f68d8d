# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx completion: what bash proposes after nyx, from the command line."""

from .words import commands

VMS = '@vm'                     # stands for the names of running VMs
FILES = '@file'
VM_METAVARS = 'VM', 'SOURCE', 'DESTINATION', 'NAME'
FILE_METAVARS = 'FILE', 'DIR', 'SPEC', 'SPEC.toml'

SCRIPT = '''# SPDX-License-Identifier: GPL-2.0-or-later
# Completion of nyx for bash; made by "nyx completion".

_nyx_words() {
    case $1 in
%(words)s
    esac
}

_nyx_values() {
    case $1 in
%(values)s
    esac
}

_nyx_vms() {
    local dir=/run/nyx path
    [ "$(id -u)" = 0 ] || dir=${XDG_RUNTIME_DIR:-/nonexistent}/nyx
    for path in "${NYX_RUN_DIR:-$dir}"/*/qmp.sock; do
        [ -S "$path" ] || continue
        path=${path%%/qmp.sock}
        echo "${path##*/}"
    done
}

_nyx() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    local path= proposed word
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in -*) break ;; esac
        [ -n "$(_nyx_words "$path$word/")" ] || break
        path=$path$word/
    done
    proposed=$(_nyx_values "$path $before")
    [ -n "$proposed" ] || proposed=$(_nyx_words "$path")
    case $proposed in *@vm*)
        proposed="${proposed//@vm/} $(_nyx_vms)" ;;
    esac
    COMPREPLY=($(compgen -W "${proposed//@file/}" -- "$current"))
    case $proposed in *@file*)
        compopt -o filenames
        COMPREPLY+=($(compgen -f -- "$current")) ;;
    esac
}

complete -F _nyx nyx
'''


def _kind(action):
    """What an argument or a value of an option may be."""
    if action.choices:
        return [str(choice) for choice in action.choices]
    metavar = action.metavar or ''
    if metavar in VM_METAVARS:
        return [VMS]
    return [FILES] if metavar in FILE_METAVARS else []


def _words(command):
    words = [name for name, _, _ in command.actions()]
    words += [name for action in command.options()
              for name in action.option_strings if name.startswith('--')]
    for action in command.arguments():
        words += _kind(action)
    return [*words, '--help']


def _path(command):
    return ''.join(f'{word}/' for word in command.path)


def script(parser):
    """The file for bash."""
    words, values = [], []
    for command in commands(parser):
        path = _path(command)
        words.append(f"    '{path}') echo '{' '.join(_words(command))}' ;;")
        for action in command.options():
            kind = _kind(action) if action.nargs != 0 else []
            if kind:
                keys = '|'.join(f"'{path} {name}'"
                                for name in action.option_strings)
                values.append(f"    {keys}) echo '{' '.join(kind)}' ;;")
    return SCRIPT % {'words': '\n'.join(words), 'values': '\n'.join(values)}


def add(subparsers):
    """Add the subcommand."""
    text = 'print the completion of nyx for bash'
    parser = subparsers.add_parser(
        'completion', help=text, description=f'{text.capitalize()}; "make '
        'install" puts it where bash looks.')

    def run(_):
        # pylint: disable=import-outside-toplevel,cyclic-import
        from .main import parser as whole
        print(script(whole()), end='')
    parser.set_defaults(run=run)
