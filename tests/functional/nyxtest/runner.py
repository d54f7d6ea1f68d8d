# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Run test classes side by side, say how it goes, and sum up.

A class that fails runs once more, alone: what passes then is not a failure but
"unsteady", and is named at the end with what went wrong the first time. When
many classes fail, none is run again: it is not chance then.

Leaves in build/tests/functional: a log for each class, results.tap and
results.json ({"passed": N, "failed": N, "skipped": N, "tests": [...]}).
"""

import ast
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .accel import choose_accel
from .errors import NyxTestError
from .image import guest_image
from .paths import LOGS, QEMU
from .vm import machine_name

FOLDER = Path(__file__).resolve().parents[1]
CLASS_SECONDS = 600         # the worker itself gives up earlier
JOBS = 2
MAX_AGAIN = 4


def all_classes():
    """Every test class as (module, class), without importing any."""
    found = []
    for path in sorted(FOLDER.glob('test_*.py')):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.bases and \
                    not node.name.startswith('_'):
                found.append((path.stem, node.name))
    return found


def choose(names):
    """The classes that names (module, or module.Class) stand for."""
    classes = all_classes()
    if not names:
        return classes
    chosen = []
    for name in names:
        name = name.removesuffix('.py').rsplit('/', 1)[-1]
        some = [c for c in classes if name in (c[0], '.'.join(c))]
        if not some:
            raise NyxTestError(f'there is no functional test {name}; '
                               'see "tests/functional/run --list".')
        chosen += some
    return chosen


def _run_class(name, which):
    """Run a class in a process; its log and its folder are called name."""
    result = LOGS / f'{name}.result'
    result.unlink(missing_ok=True)
    with (LOGS / f'{name}.log').open('w') as log:
        try:
            status = subprocess.run(
                [sys.executable, '-m', 'nyxtest.worker', *which, result],
                cwd=FOLDER, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, timeout=CLASS_SECONDS, check=False).returncode
        except subprocess.TimeoutExpired:
            status = f'none within {CLASS_SECONDS} s'
    lines = result.read_text().splitlines() if result.exists() else []
    tests = [json.loads(line) for line in lines]
    if status or not tests:
        tests.append({'test': '.'.join(which), 'outcome': 'failed',
                      'seconds': 0,
                      'detail': f'the tests ended with status {status}'})
    return tests


def _failures(tests):
    return [test for test in tests if test['outcome'] == 'failed']


def _detail(test):
    return test['detail'].splitlines()[0][:300] if test['detail'] else ''


def _report(name, tests, seconds):
    print(f'{name} ({seconds:.1f} s)')
    for test in tests:
        short = test['test'].rsplit('.', 1)[-1]
        detail = f': {_detail(test)}' if test['detail'] else ''
        print(f"    {test['outcome']:8}{short} "
              f"({test['seconds']:.1f} s){detail}")
    if _failures(tests):
        print(f'    see {LOGS / name}.log and {LOGS / name}/')
    sys.stdout.flush()


class Run:
    """The classes of one run and what came of them."""

    def __init__(self, classes):
        self._classes = classes
        self._lock = threading.Lock()
        self._done = 0
        self._results = {}
        self._unsteady = []

    def all(self):
        with ThreadPoolExecutor(JOBS) as pool:
            list(pool.map(self._first_run, self._classes))
        failed = [which for which in self._classes
                  if _failures(self._results[which])]
        if len(failed) <= MAX_AGAIN:
            for which in failed:
                self._second_run(which)

    @property
    def tests(self):
        return [test for which in self._classes
                for test in self._results[which]]

    def _first_run(self, which):
        began = time.monotonic()
        tests = _run_class('.'.join(which), which)
        with self._lock:
            self._results[which] = tests
            self._done += 1
            print(f'[{self._done}/{len(self._classes)}] ', end='')
            _report('.'.join(which), tests, time.monotonic() - began)

    def _second_run(self, which):
        began = time.monotonic()
        name = '.'.join(which)
        # The first run's log and folder stay: they have the failure.
        first = LOGS / f'{name}.first'
        shutil.rmtree(first, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            (LOGS / name).rename(first)
        tests = _run_class(f'{name}.again', which)
        print('[again, alone] ', end='')
        _report(name, tests, time.monotonic() - began)
        if not _failures(tests):
            self._unsteady += _failures(self._results[which])
        self._results[which] = tests

    def print_failures(self):
        """The last words: whoever sees only these must learn what failed."""
        for test in self._unsteady:
            print(f"UNSTEADY {test['test']}: {_detail(test)}")
        for test in _failures(self.tests):
            print(f"FAILED {test['test']}: {_detail(test)}")

    def count(self, outcome):
        return sum(test['outcome'] == outcome for test in self.tests)

    def write(self):
        counts = {key: self.count(key)
                  for key in ('passed', 'failed', 'skipped')}
        (LOGS / 'results.json').write_text(
            json.dumps({**counts, 'tests': self.tests}, indent=1))
        lines = [f'1..{len(self.tests)}']
        for number, test in enumerate(self.tests, 1):
            word = 'not ok' if test['outcome'] == 'failed' else 'ok'
            skip = f" # SKIP {test['detail']}" \
                if test['outcome'] == 'skipped' else ''
            lines.append(f"{word} {number} - {test['test']}{skip}")
        (LOGS / 'results.tap').write_text('\n'.join(lines) + '\n')


@contextlib.contextmanager
def _alone():
    """Only one run at a time writes to the folder of the logs."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / 'lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print('functional: waiting for another run to end', flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(names):
    """Run what names stand for; returns the exit status."""
    classes = choose(names)
    with _alone():
        return _run(classes)


def _run(classes):
    if not QEMU.exists():
        raise NyxTestError(f'{QEMU} is missing; run "make" first, or set QEMU '
                           'to the program to test.')
    image = guest_image()
    accel, why = choose_accel(image)
    os.environ['ACCEL'] = accel
    print(f'functional: {len(classes)} guests on {machine_name()}, '
          f'{accel} ({why}), Linux {image.release}', flush=True)
    began = time.monotonic()
    this = Run(classes)
    this.all()
    this.write()
    this.print_failures()
    print(f'functional: {time.monotonic() - began:.0f} s')
    print(f"{this.count('passed')} passed, {this.count('failed')} failed, "
          f"{this.count('skipped')} skipped", flush=True)
    return 1 if this.count('failed') else 0
