# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Migration streams: captured, taken apart, put together otherwise, loaded."""

import hashlib
import json
import os
import struct
import subprocess

from .errors import NyxTestError
from .paths import QEMU
from .vm import machine_name

SECONDS = 60
# A report of a sanitizer is no refusal: QEMU ends by a signal then.
ABORT = {'ASAN_OPTIONS': 'abort_on_error=1:detect_leaks=0:'
                         'detect_stack_use_after_return=0',
         'UBSAN_OPTIONS': 'abort_on_error=1:halt_on_error=1:print_stacktrace=1'}
FULL, FOOTER = 4, 0x7e
STATE, FUNCTIONS, DIGEST = 'nyx-iommu', 'nyx-iommu-functions', \
    'nyx-iommu-digest'
TABLES, LATE_TABLES = 'nyx-iommu-tables', 'nyx-iommu-tables-late'


class Stream:
    """What migrate wrote to a file, with the sections of nyx-iommu in it."""

    def __init__(self, data):
        self.data = bytes(data)

    def section(self, name):
        """Where a section starts, where its content does, and where it ends."""
        text = name.encode()
        head = bytes([len(text)]) + text
        at = self.data.find(head)
        while at >= 5:
            start = at - 5
            if self.data[start] == FULL:
                footer = bytes([FOOTER]) + self.data[start + 1:at]
                content = at + len(head) + 8
                end = self.data.find(footer, content)
                if end >= 0:
                    return start, content, end + len(footer)
            at = self.data.find(head, at + 1)
        raise NyxTestError(f'the stream has no section {name}')

    def content(self, name):
        _, first, end = self.section(name)
        return self.data[first:end - 5]

    def replaced(self, name, content):
        _, first, end = self.section(name)
        return Stream(self.data[:first] + content + self.data[end - 5:])

    def without(self, name):
        start, _, end = self.section(name)
        return Stream(self.data[:start] + self.data[end:])

    def with_section(self, name, content, before=STATE):
        """One more, in front of another."""
        start = self.section(before)[0]
        number_of_it = number(0x7000)
        return Stream(self.data[:start] + bytes([FULL]) + number_of_it +
                      bytes([len(name)]) + name.encode() + number(0) +
                      number(1) + content + bytes([FOOTER]) + number_of_it +
                      self.data[start:])

    def twice(self, name):
        start, _, end = self.section(name)
        return Stream(self.data[:end] + self.data[start:])

    def signed(self):
        """With the digest of what it has now, as a stranger would make it."""
        parts = b''.join(hashlib.sha256(self.content(name)).digest()
                         for name in (STATE, FUNCTIONS))
        return self.replaced(DIGEST, hashlib.sha256(parts).digest())


class Loader:
    """QEMU that loads a stream, and is asked about it if it takes it."""

    def __init__(self, arguments, options=(), memory='2M'):
        self._command = [
            str(QEMU), '-M', ','.join([machine_name(), *options]), '-accel',
            'qtest', '-m', memory, '-S', '-nodefaults', '-no-user-config',
            '-display', 'none', '-incoming', 'defer', '-qmp', 'stdio',
            *arguments]

    def load(self, path, *asked):
        """What it answered to all that was asked, or None; what it said.

        Whatever the stream is, QEMU ends by itself and with status 0 or 1.
        """
        steps = [('qmp_capabilities', {}),
                 ('migrate-set-capabilities', {'capabilities': [
                     {'capability': 'events', 'state': True}]}),
                 ('migrate-incoming', {'uri': f'file:{path}'})]
        process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, errors='replace',
            env=dict(os.environ, **ABORT))
        with process:
            try:
                answers = self._talk(process, steps, asked)
                _, said = process.communicate(timeout=SECONDS)
            except (BrokenPipeError, subprocess.TimeoutExpired) as err:
                process.kill()
                raise NyxTestError(f'{path}: {err}') from err
        if process.returncode != (1 if answers is None else 0):
            raise NyxTestError(f'{path}: status {process.returncode}: {said}')
        return answers, said

    @staticmethod
    def _talk(process, steps, asked):
        def send(name, arguments):
            process.stdin.write(json.dumps(
                {'execute': name, 'arguments': arguments, 'id': name}) + '\n')
            process.stdin.flush()

        for step in steps:
            send(*step)
        for line in process.stdout:
            message = json.loads(line)
            if message.get('event') == 'MIGRATION' and \
                    message['data']['status'] == 'completed':
                break
        else:
            return None
        for question in (*asked, ('quit', {})):
            send(*question)
        answers = [json.loads(line) for line in process.stdout]
        return [answer for answer in answers if 'event' not in answer]


def number(value, size=4):
    return struct.pack({1: '>B', 2: '>H', 4: '>I', 8: '>Q'}[size], value)


def text(data):
    """Bytes, with how many there are."""
    return number(len(data)) + data


def subsection(name, content):
    return bytes([5, len(name)]) + name.encode() + number(1) + content


def saved_table(domain, table, changed=None, large_pages=True):
    """A table in one of its sections; changed: the ranges that it tells of."""
    saved = text(domain.encode() + b'\0') + bytes([large_pages]) + text(table)
    if changed is not None:
        saved += subsection('nyx-table/changed', text(changed))
    return saved


def saved_tables(*tables):
    """The content of such a section."""
    return b''.join(b'\1' + table for table in tables) + b'\0'
