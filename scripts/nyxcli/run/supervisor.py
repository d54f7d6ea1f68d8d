# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Starts a VM, waits for its end, and clears up."""

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from ..errors import Gone, NyxError
from ..rundir import listens
from ..vm import connect
from . import afterwards
from .host import HERE
from .logpipe import LogPipe
from .qemu import command
from .steps import steps

FILES = ('qmp.sock', 'metrics.sock', 'events.sock', 'console.sock', 'tpm.sock',
         'tpm.pid', 'qemu.pid', 'spec.json')
LOOK_SECONDS = 0.02             # how often we see whether QEMU listens
EXPORTER_SECONDS = 10


class Supervisor:
    """start(), then wait(); both in one process, which outlives QEMU."""

    def __init__(self, spec, host, terminal=None):
        self.name = spec['name']
        self._spec = spec
        self._host = host
        self._terminal = terminal
        self._lock = None
        self._undo = []
        self._process = None
        self._exporter = None
        self.log = None

    def start(self):
        """Until the guest runs; NyxError, and nothing left, if it cannot."""
        words = command(self._spec, self._host)
        todo = steps(self._spec, self._host)
        todo[0].run()
        self._take_lock()
        try:
            self._remove_files()
            for step in todo[1:]:
                step.run()
                self._undo.append(step)
            self._start_qemu(words)
            self._write_about(words)
            self._await_qmp()
            self._start_exporter()
        except BaseException:
            self.end()
            raise

    def _take_lock(self):
        """One nyx for one VM; the kernel frees the lock when we end."""
        folder = self._host.run
        lock = os.open(folder / 'lock', os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = listens(folder / 'qmp.sock')
        except OSError:
            taken = True
        if taken:
            os.close(lock)
            raise NyxError(f'a VM named "{self.name}" runs already; stop it '
                           f'with "nyx stop {self.name}", or give this one '
                           'another name.')
        self._lock = lock

    def _remove_files(self):
        for name in FILES:
            (self._host.run / name).unlink(missing_ok=True)

    def _start_qemu(self, words):
        on_terminal = self._spec['console']['type'] == 'stdio'
        try:
            self._process = subprocess.Popen(
                words, stderr=subprocess.PIPE,
                stdin=None if on_terminal else subprocess.DEVNULL,
                stdout=None if on_terminal else subprocess.DEVNULL,
                # Ctrl-C of a terminal is for us, not for QEMU.
                process_group=None if on_terminal else 0)
            self.log = LogPipe(self._process.stderr, self._host.program.name,
                               self._host.log, self._terminal)
        except OSError as err:
            raise NyxError(f'{err.filename or words[0]}: '
                           f'{err.strerror.lower()}; correct what the spec '
                           'says of it.') from err

    def _write_about(self, words):
        about = {'name': self.name, 'spec': str(self._spec.path.absolute()),
                 'pid': self._process.pid, 'accel': self._host.accel,
                 'started': time.time(), 'command': words,
                 'log': str(self._host.log),
                 'undo': [step.undo for step in self._undo if step.undo]}
        (self._host.run / 'spec.json').write_text(json.dumps(about, indent=1))

    def _await_qmp(self):
        """Wait until QEMU answers, and do what is left to do."""
        path = self._host.run / 'qmp.sock'
        while not listens(path):
            if self._has_ended(LOOK_SECONDS):
                return
        while True:
            try:
                vm = connect(str(path))
                break
            except NyxError:
                # It prepares memory or loads a snapshot; or has ended.
                if self._has_ended(1):
                    return
        with vm:
            try:
                afterwards.finish(self._spec, vm, self._process.pid)
                if self._host.starts_stopped:
                    # A guest that is to come here runs when it has come.
                    vm.execute('cont')
            except Gone:
                self._has_ended(None)

    def _has_ended(self, seconds):
        """Whether it has ended well; NyxError if otherwise."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        if status == 0:
            return True
        why = self.log.last_words() or f'status {status}'
        raise NyxError(f'QEMU did not start "{self.name}": {why}.')

    def _start_exporter(self):
        listen = self._spec['metrics']['listen']
        if not listen:
            return
        with (self._host.run / 'metrics.log').open('w') as log:
            self._exporter = subprocess.Popen(
                [sys.executable, str(HERE / 'nyx'), 'metrics', '--listen',
                 listen, self.name], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, process_group=0)
        threading.Thread(target=self._watch_exporter, daemon=True).start()

    def _watch_exporter(self):
        status = self._exporter.wait()
        if status > 0 and self._process.poll() is None:
            self.log.say('error', f'the exporter ended with status {status}; '
                         f'see {self._host.run}/metrics.log')

    def power_down(self):
        """Ask the guest to end, as its power button does."""
        with connect(str(self._host.run / 'qmp.sock')) as vm:
            vm.execute('system_powerdown')

    def kill(self):
        """End QEMU at once; it still flushes its disks."""
        self._process.terminate()

    def wait(self, signals):
        """Until QEMU ends, and its status; or None when a signal came."""
        if self._process.returncode is not None:
            return self._process.returncode
        end = os.pidfd_open(self._process.pid)
        try:
            select.select([end, signals], [], [])
        finally:
            os.close(end)
        return self._process.poll()

    def end(self):
        """Clear up, whatever has been done; may be called again."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._exporter and self._exporter.poll() is None:
            self._exporter.terminate()
            try:
                self._exporter.wait(EXPORTER_SECONDS)
            except subprocess.TimeoutExpired:
                self._exporter.kill()
        self._end_tpm()
        for step in reversed(self._undo):
            step.take_back()
        self._undo = []
        if self.log:
            self.log.finish()
            self.log = None
        if self._lock is not None:
            self._remove_files()
            os.close(self._lock)
            self._lock = None

    def _end_tpm(self):
        """swtpm goes with QEMU by itself, unless QEMU never came to it."""
        try:
            number = int((self._host.run / 'tpm.pid').read_text())
            comm = Path(f'/proc/{number}/comm').read_text().strip()
            if comm == 'swtpm':
                os.kill(number, signal.SIGTERM)
        except (OSError, ValueError):
            pass                # it has gone
