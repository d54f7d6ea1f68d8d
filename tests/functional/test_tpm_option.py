# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The machine options tpm and tpm-model: the TPM they make, their errors."""

import shutil
import subprocess
import unittest

from nyxtest.case import needs_nyx
from nyxtest.paths import LOGS, QEMU
from nyxtest.qtest import QtestVM
from nyxtest.tpm import Swtpm, needs_swtpm
from nyxtest.vm import machine_name

SECONDS = 120
# Where each model has its registers, and what says which one it is there.
INTERFACE = {'crb': (0xfed40030, 0x1), 'tis': (0xfed40030, 0x0)}


@needs_nyx
@needs_swtpm
class OptionTest(unittest.TestCase):
    def setUp(self):
        self.folder = LOGS / f'{type(self).__module__}.' \
            f'{type(self).__name__}' / self._testMethodName
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def backend(self, *version):
        """A -tpmdev tpm0 with a TPM behind it."""
        state = self.folder / 'tpm'
        state.mkdir()
        swtpm = Swtpm(state, self.folder / 'tpm.log', version)
        self.addCleanup(swtpm.end)
        return ['-chardev', f'socket,id=tpm-chr,path={swtpm.socket}',
                '-tpmdev', 'emulator,id=tpm0,chardev=tpm-chr']

    def start(self, *arguments, options):
        vm = QtestVM(self.folder / 'vm', *arguments, machine_options=options)
        self.addCleanup(vm.stop)
        return vm

    def fails(self, options, *arguments):
        """The one line that QEMU says when it does not start."""
        done = subprocess.run(
            [str(QEMU), '-M', f'{machine_name()},{options}', '-accel',
             'qtest', '-nodefaults', '-display', 'none', *arguments],
            capture_output=True, text=True, timeout=SECONDS, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        return lines[0].split(': ', 1)[1]

    def check_model(self, model, *options):
        vm = self.start(*self.backend('--tpm2'),
                        options=['tpm=tpm0', *options])
        tpm, = vm.monitor.command('query-tpm')
        self.assertEqual((tpm['id'], tpm['model']), ('tpm0', f'tpm-{model}'))
        address, kind = INTERFACE[model]
        self.assertEqual(int(vm.qtest('readl', address), 16) & 0xf, kind)
        for name, value in ('tpm', 'tpm0'), ('tpm-model', model):
            self.assertEqual(vm.monitor.command(
                'qom-get', path='/machine', property=name), value)
            with self.assertRaisesRegex(Exception, 'cannot change while the '
                                        'VM runs'):
                vm.monitor.command('qom-set', path='/machine', property=name,
                                   value=value)

    def test_crb(self):
        self.check_model('crb')

    def test_tis(self):
        self.check_model('tis', 'tpm-model=tis')

    def test_none(self):
        vm = self.start(*self.backend('--tpm2'), options=['tpm='])
        self.assertEqual(vm.monitor.command('query-tpm'), [])

    def test_no_tpmdev(self):
        self.assertEqual(
            self.fails('tpm=mine'),
            'tpm=mine: there is no -tpmdev with id=mine; start swtpm, and add '
            '-chardev socket,id=CHR,path=SOCKET '
            '-tpmdev emulator,id=mine,chardev=CHR')

    def test_model_alone(self):
        self.assertEqual(
            self.fails('tpm-model=crb'),
            'tpm-model=crb names no TPM; add tpm=TPMDEV, the id of a -tpmdev')

    def test_no_such_model(self):
        self.assertIn("'tpm-model' does not accept value 'spi'",
                      self.fails('tpm=tpm0,tpm-model=spi'))

    def test_version(self):
        backend = self.backend()
        self.assertEqual(
            self.fails('tpm=tpm0', *backend),
            'tpm=tpm0: it is a TPM 1.2, which has no CRB; start swtpm with '
            '--tpm2, or use tpm-model=tis')

    def test_two(self):
        self.assertIn("'tpm0' is already initialized",
                      self.fails('tpm=tpm0', *self.backend('--tpm2'),
                                 '-device', 'tpm-tis,tpmdev=tpm0'))
