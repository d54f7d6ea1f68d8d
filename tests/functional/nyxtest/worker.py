# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Run the tests of one class; write one line of JSON for each to a file."""

import importlib
import json
import sys
import time
import traceback
import unittest


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


def main():
    module_name, class_name, result_name = sys.argv[1:]
    tests = getattr(importlib.import_module(module_name), class_name)
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(tests)
    with open(result_name, 'w', encoding='utf-8') as file:
        suite.run(JsonResult(file))


if __name__ == '__main__':
    main()
