# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What a TPM keeps, and how long: through resets, snapshots, migrations."""

import hashlib

from nyxtest import eventlog
from nyxtest.case import GuestTest, needs_nyx
from nyxtest.jobs import snapshot, snapshot_disk
from nyxtest.move import move
from nyxtest.stage1 import add_stage1
from nyxtest.tpm import BANKS, TpmVM, needs_swtpm
from nyxtest.tpmtools import (event_log, needs_tpm_tools, pcr, tpm2,
                              tpm_image)

NV_INDEX, SEALED = '0x1500016', '0x81010001'
SECRET = 'kept by the TPM alone'
# What the firmware measures, and a PCR that is ours: zeros after each reset.
OURS = 15
# Tools take eight at most.
POLICY = f'sha256:0,2,4,7,{OURS}+sha384:0,4,{OURS}'
SECONDS = 600


@needs_nyx
@needs_swtpm
@needs_tpm_tools
class _TpmTest(GuestTest):
    """SeaBIOS measures, Linux's kernel is not part of it."""

    vm_class = TpmVM
    memory = '256M'
    boot_limit = SECONDS
    make_image = staticmethod(lambda _: tpm_image())
    stage1 = None
    model = None

    @classmethod
    def describe(cls, vm):
        vm.tpm_model = cls.model
        if cls.stage1:
            add_stage1(vm, cls.stage1)
        path = vm.folder / 'disk0.qcow2'
        vm.add(*snapshot_disk(path, '16M', 'disk0'))
        cls.addClassCleanup(path.unlink)
        vm.device('virtio-blk-pci', ['virtio_pci', 'virtio_blk'], id='disk0',
                  drive='disk0')

    def pcr(self, number, bank='sha256'):
        return pcr(self.vm, bank, number)

    def tpm2(self, words):
        return tpm2(self.vm, words)

    def extend(self, number, text):
        """In each bank; what PCR sha256 has to be then, which it is."""
        digests = ','.join(f'{bank}={hashlib.new(bank, text).hexdigest()}'
                           for bank in BANKS)
        before = bytes.fromhex(self.pcr(number))
        self.tpm2(f'pcrextend {number}:{digests}')
        after = hashlib.sha256(before + hashlib.sha256(text).digest())
        self.assertEqual(self.pcr(number), after.hexdigest().upper())
        return self.pcr(number)

    def write_nv(self, text):
        self.vm.agent.check(f"printf %s '{text}' >/run/nv")
        self.tpm2(f'nvwrite {NV_INDEX} -C o -i /run/nv')

    def read_nv(self, text):
        return self.tpm2(f'nvread {NV_INDEX} -C o -s {len(text)}')

    def unseal(self):
        return self.vm.agent.run(
            f'tpm2 unseal -c {SEALED} -p pcr:{POLICY} '
            '-T device:/dev/tpmrm0 2>/dev/null', 120)

    def assert_unseals(self):
        done = self.unseal()
        self.assertEqual((done.status, done.output), (0, SECRET))

    def assert_refused(self):
        done = self.unseal()
        self.assertNotEqual(done.status, 0)
        self.assertNotIn(SECRET, done.output)

    def test_1_banks(self):
        """SHA-256 and SHA-384, of 24 PCRs each, and as the log says"""
        self.assertEqual(self.vm.monitor.command('query-tpm')[0]['model'],
                         f'tpm-{self.model}')
        said = self.vm.agent.check('ls -d /sys/class/tpm/tpm0/pcr-*/*')
        self.assertEqual(
            {tuple(line.split('/')[-2:]) for line in said.splitlines()},
            {(f'pcr-{bank}', str(number)) for bank in BANKS
             for number in range(24)})
        log = event_log(self.vm)
        for bank in BANKS:
            expected = eventlog.replay(log, bank)
            self.assertGreaterEqual(set(expected), {*range(8)})
            for number, value in expected.items():
                self.assertEqual(self.pcr(number, bank), value,
                                 (bank, number))
            self.assertEqual(set(self.pcr(OURS, bank)), {'0'})

    def test_2_seal(self):
        """A secret for this firmware alone, and an NV index"""
        self.tpm2(f'nvdefine {NV_INDEX} -C o -s 64 -a "ownerread|ownerwrite"')
        self.write_nv('first')
        self.tpm2('createprimary -Q -C o -G ecc -c /run/primary')
        self.tpm2(f'pcrread -Q {POLICY} -o /run/pcrs')
        self.tpm2(f'createpolicy -Q --policy-pcr -l {POLICY} -f /run/pcrs '
                  '-L /run/policy')
        self.vm.agent.check(f"printf %s '{SECRET}' >/run/secret")
        self.tpm2('create -Q -C /run/primary -i /run/secret -L /run/policy '
                  '-u /run/public -r /run/private')
        self.tpm2('load -Q -C /run/primary -u /run/public -r /run/private '
                  '-c /run/sealed')
        self.tpm2(f'evictcontrol -Q -C o -c /run/sealed {SEALED}')
        self.vm.agent.check('rm /run/secret /run/sealed /run/private')
        self.assert_unseals()

    def test_3_reset(self):
        """What is not volatile stays; PCRs do not."""
        boot = self.pcr(4)
        self.extend(OURS, b'before the reset')
        self.assert_refused()
        self.vm.reset(SECONDS)
        self.assertEqual(self.pcr(4), boot)
        self.assertEqual(self.read_nv('first'), 'first')
        self.assert_unseals()

    def test_4_snapshot(self):
        """The TPM goes back with its guest."""
        self.vm.monitor.command('stop')
        snapshot(self.vm, 'save', 'one', ['disk0'])
        self.vm.monitor.command('cont')
        self.extend(OURS, b'after the snapshot')
        self.write_nv('second')
        self.assert_refused()
        self.vm.monitor.command('stop')
        snapshot(self.vm, 'load', 'one', ['disk0'])
        self.vm.monitor.command('cont')
        self.assertEqual(set(self.pcr(OURS)), {'0'})
        self.assertEqual(self.read_nv('first'), 'first')
        self.assert_unseals()

    def test_5_migration(self):
        """Into a VM whose TPM knew nothing; what is volatile comes, too. That
        VM has its TPM by -device: it is the same.
        """
        ours = self.extend(OURS, b'before the migration')
        self.write_nv('third')
        self.vm.tpm_option = False
        move(self.vm)
        self.assertEqual(self.pcr(OURS), ours)
        self.assertEqual(self.read_nv('third'), 'third')
        self.assert_refused()
        self.vm.reset(SECONDS)
        self.assert_unseals()
        self.assertEqual(self.read_nv('third'), 'third')
        self.assert_no_faults()


class CrbTest(_TpmTest):
    model = 'crb'


class TisTest(_TpmTest):
    model = 'tis'
    stage1 = 'intel'
