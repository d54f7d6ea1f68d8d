# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx run: UEFI, Secure Boot, TPM, with OVMF and swtpm of Debian."""

import json
import os
import select
import shutil
import unittest
from pathlib import Path

from nyxtest.nyxrun import RunCase

# pylint: disable=wrong-import-order,import-error
from nyxcli.run.firmware import FOLDERS

ZERO_PCR = '0' * 64
# The kernel of the tests does not come by a signed boot loader. OVMF of 2025
# starts such a one only when told to; older ones do, and take no notice.
LEGACY_LOADER = ['-fw_cfg',
                 'name=opt/org.tianocore/EnableLegacyLoader,string=yes']


def have(program):
    return shutil.which(program, path=f'{os.environ["PATH"]}:/usr/sbin')


@unittest.skipUnless(os.path.isdir(FOLDERS[0]), 'the package ovmf is missing')
class FirmwareTest(RunCase):
    """What the guest's kernel says of what has started it."""

    def pcr(self, guest, number):
        return guest.agent.check(
            f'cat /sys/class/tpm/tpm0/pcr-sha256/{number}')

    def boot_secure(self):
        return self.boot(self.example('secure'), 'secure', '--set',
                         f'qemu.arguments={json.dumps(LEGACY_LOADER)}',
                         modules=['virtio_blk', 'virtio_net'])

    @unittest.skipUnless(have('swtpm'), 'the package swtpm is missing')
    def test_secure_boot_and_tpm(self):
        guest = self.boot_secure()
        self.assertIn('Secure boot enabled', guest.console())
        self.assertIn('locked down from EFI Secure Boot', guest.console())
        self.assertEqual(guest.agent.check(
            'cat /sys/class/tpm/tpm0/tpm_version_major'), '2')
        for number in (0, 4, 7):
            self.assertNotEqual(self.pcr(guest, number), ZERO_PCR, number)
        self.assertEqual(guest.domain_of('disk0'), 'system')
        self.assert_unharmed(guest)
        state = self.folder / 'state' / 'secure'
        self.assertTrue((state / 'tpm').is_dir())
        # What the guest's firmware and TPM keep outlives the VM.
        variables = (state / 'uefi-vars.fd').read_bytes()
        before = self.pcr(guest, 7)
        self.says('stop', 'secure', '--now')
        self.assertEqual(self.left_behind('secure'), [])
        again = self.boot_secure()
        self.assertEqual(self.pcr(again, 7), before)
        self.assertNotEqual(variables, bytes(len(variables)))

    def left_behind(self, name):
        """Files of a VM that has ended, but for its logs."""
        return [path.name for path in (self.run_dir / name).iterdir()
                if path.name not in ('lock', 'log', 'tpm.log')]

    def test_uefi_without_secure_boot(self):
        guest = self.boot(self.example('secure'), 'secure', '--set',
                          'firmware={type = "uefi"}', '--set', 'tpm=false',
                          modules=['virtio_blk'])
        self.assertIn('efi: EFI v2', guest.console())
        self.assertNotIn('Secure boot enabled', guest.console())
        self.assertEqual(guest.agent.run('ls /sys/class/tpm/tpm0').status, 1)
        self.assert_unharmed(guest)

    @unittest.skipUnless(have('swtpm'), 'the package swtpm is missing')
    def test_tpm_of_a_bios(self):
        """SeaBIOS measures, too; and the other way to talk to a TPM."""
        guest = self.boot(self.spec('memory = "256M"\n'), 'vm', '--set',
                          'tpm={enabled = true, model = "tis"}')
        self.assertNotEqual(self.pcr(guest, 0), ZERO_PCR)
        self.assert_unharmed(guest)

    @unittest.skipUnless(have('swtpm'), 'the package swtpm is missing')
    def test_state_in_use(self):
        """Two VMs cannot have one TPM."""
        guest = self.launch(self.spec('memory = "256M"\n'), 'vm', '--set',
                            'tpm=true')
        self.assertEqual(guest.qmp('query-tpm')[0]['model'], 'tpm-crb')
        other = self.spec('memory = "256M"\n', 'other')
        state = self.folder / 'state' / 'vm' / 'tpm'
        done = self.nyx('run', '--detach', other, '--set', 'tpm.enabled=true',
                        '--set', f'tpm.state={state}', '--set',
                        'machine.accel=tcg')
        self.addCleanup(self.nyx, 'stop', 'other', '--now')
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertEqual(self.left_behind('other'), [])
        self.assertEqual(guest.qmp('query-status')['status'], 'running')

    @unittest.skipUnless(have('swtpm'), 'the package swtpm is missing')
    def test_no_tpm_is_left(self):
        """However early QEMU ends, swtpm does not stay."""
        for change in ('machine.stage1-options={nonesuch = 1}',
                       'qemu.arguments=["-nonesuch"]',
                       'cpus.model=nonesuch'):
            self.fails('run', '--detach', self.spec('memory = "64M"\n'),
                       '--set', 'tpm=true', '--set', 'machine.accel=tcg',
                       '--set', 'machine.stage1=intel', '--set', change)
            self.assertEqual(self.left_behind('vm'), [])
            mine = str(self.run_dir).encode()
            for path in Path('/proc').glob('[0-9]*/cmdline'):
                try:
                    text = path.read_bytes()
                except OSError:
                    continue
                if text.startswith(b'/usr/bin/swtpm') and mine in text:
                    self.await_end(int(path.parent.name))

    def await_end(self, number):
        """A process that is about to end does so."""
        try:
            process = os.pidfd_open(number)
        except ProcessLookupError:
            return
        self.addCleanup(os.close, process)
        self.assertTrue(select.select([process], [], [], 30)[0],
                        'swtpm is left')

    def test_variables_as_qcow2(self):
        """So that the VM can have internal snapshots."""
        spec = self.spec('firmware = "uefi"\nmemory = "256M"\n')
        guest = self.launch(spec, 'vm', '--set', 'firmware.vars=v.qcow2',
                            '--set', 'disk=[{file = "d.qcow2", create = '
                            '"16M"}]')
        self.assertEqual(guest.qmp('human-monitor-command',
                                   **{'command_line': 'savevm one'}), '')

    def test_no_such_firmware(self):
        said = self.fails('run', self.spec('firmware = "uefi"\n'), '--set',
                          'firmware.code=/nowhere/code.fd', '--set',
                          'firmware.template=/nowhere/vars.fd', '--set',
                          'machine.accel=tcg')
        self.assertEqual(len(said), 1)
        self.assertIn('/nowhere/vars.fd', said[0])
