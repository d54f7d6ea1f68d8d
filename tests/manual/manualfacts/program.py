# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""QEMU with a nyx-pc that does not run, asked by QMP what there is."""

import json
import subprocess
import threading

from .paths import QEMU

MACHINE = 'pc-q35-nyx-11.1-machine'
PARENT = 'pc-q35-11.1-machine'
SECONDS = 50            # for all that is asked


class Refused(Exception):
    """QEMU answered with an error."""


class Program:
    def __init__(self):
        self._process = subprocess.Popen(
            [QEMU, '-M', 'nyx-pc', '-S', '-display', 'none', '-serial', 'none',
             '-parallel', 'none', '-monitor', 'none', '-net', 'none',
             '-run-with', 'exit-with-parent=on', '-qmp', 'stdio'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        # What does not answer is ended, and then found to have ended.
        self._watchdog = threading.Timer(SECONDS, self._process.kill)
        self._watchdog.start()
        if 'QMP' not in self._line():
            raise Refused(f'{QEMU} has no QMP.')
        self.command('qmp_capabilities')

    def _line(self):
        line = self._process.stdout.readline()
        if not line:
            raise Refused(f'{QEMU} ended, or did not answer within '
                          f'{SECONDS} s.')
        return json.loads(line)

    def command(self, which, /, **arguments):
        json.dump({'execute': which, 'arguments': arguments},
                  self._process.stdin)
        self._process.stdin.write('\n')
        self._process.stdin.flush()
        while True:
            answer = self._line()
            if 'return' in answer:
                return answer['return']
            if 'error' in answer:
                raise Refused(answer['error']['desc'])

    def close(self):
        self._watchdog.cancel()
        self._process.kill()
        self._process.communicate()

    def properties(self, typename):
        return {entry['name'] for entry in
                self.command('qom-list-properties', typename=typename)}

    def own_machine_options(self):
        """Options of nyx-pc that pc-q35 lacks, with their values here."""
        names = self.properties(MACHINE) - self.properties(PARENT)
        return {name: self.command('qom-get', path='/machine', property=name)
                for name in names - {'stage1-options'}}

    def domain_properties(self):
        """Properties of nyx-domain, with the values of a new one."""
        self.command('object-add', **{'qom-type': 'nyx-domain', 'id': 'facts'})
        try:
            return {name: self.command('qom-get', path='/objects/facts',
                                       property=name)
                    for name in self.properties('nyx-domain') - {'type'}}
        finally:
            self.command('object-del', id='facts')

    def statistics(self):
        schemas = self.command('query-stats-schemas', provider='nyx')
        return {value['name']: value['type'] for schema in schemas
                for value in schema['stats']}

    def trace_events(self):
        return {event['name'] for event in self.command(
            'trace-event-get-state', name='*') if 'nyx' in event['name']}

    def monitor(self, line):
        return self.command('human-monitor-command', **{'command-line': line})

    def types(self):
        """Names of what users can create, of which ours have nyx in them."""
        return {entry['name'] for kind in ('device', 'user-creatable')
                for entry in self.command('qom-list-types', implements=kind)}


class Schema:
    """Commands and events of QMP, by introspection."""

    def __init__(self, program):
        self._entries = {entry['name']: entry
                         for entry in program.command('query-qmp-schema')}

    def _members(self, meta, word):
        """Members of what is sent: {name: {member: optional}}."""
        return {name: {member['name']: 'default' in member for member in
                       self._entries[entry['arg-type']]['members']}
                for name, entry in self._entries.items()
                if entry['meta-type'] == meta and word in name}

    def commands(self, word=''):
        return self._members('command', word)

    def events(self, word=''):
        return self._members('event', word)
