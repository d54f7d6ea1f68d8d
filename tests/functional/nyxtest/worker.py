# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Run the tests of one class; write one line of JSON for each to a file.

A test that hangs is stopped where it hangs: it fails with a traceback that
shows what it waited for, its cleanups end what it began, and the class ends.
"""

import importlib
import json
import signal
import sys
import time
import traceback
import unittest

# A class has this many seconds, then each cleanup of what hangs has so many.
CLASS_SECONDS = 540
CLEANUP_SECONDS = 30


class JsonResult(unittest.TestResult):
    """Each outcome as a line: test, outcome, seconds, detail."""

    def __init__(self, file):
        super().__init__()
        self._file = file
        self._began = time.monotonic()
        self._last = None

    def startTest(self, test):
        super().startTest(test)
        self._began = time.monotonic()

    def _write(self, test, outcome, detail=''):
        if self._last == test.id():
            return                  # only the first outcome of a test counts
        self._last = test.id()
        line = {'test': test.id(), 'outcome': outcome,
                'seconds': round(time.monotonic() - self._began, 2),
                'detail': detail}
        print(json.dumps(line), file=self._file, flush=True)

    def _write_failure(self, test, err):
        text = ''.join(traceback.format_exception(*err))
        print(f'{test.id()}\n{text}', flush=True)
        reason = str(err[1]).strip() or err[0].__name__
        self._write(test, 'failed', reason)

    def addSuccess(self, test):
        self._write(test, 'passed')

    def addFailure(self, test, err):
        self._write_failure(test, err)

    def addError(self, test, err):
        self._write_failure(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            print(f'{subtest.id()}', flush=True)
            self._write_failure(test, err)

    def addSkip(self, test, reason):
        self._write(test, 'skipped', reason)


def limit_time(result):
    """From now on, what hangs for too long gets an exception."""

    def too_long(*_):
        result.stop()
        signal.alarm(CLEANUP_SECONDS)
        raise TimeoutError(f'its class took more than {CLASS_SECONDS} s')
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(CLASS_SECONDS)


def main():
    module_name, class_name, result_name = sys.argv[1:]
    tests = getattr(importlib.import_module(module_name), class_name)
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(tests)
    with open(result_name, 'w', encoding='utf-8') as file:
        result = JsonResult(file)
        limit_time(result)
        suite.run(result)
        signal.alarm(0)


if __name__ == '__main__':
    main()
