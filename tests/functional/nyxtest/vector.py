# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Migration streams that versions of Nyx wrote, kept for those to come.

A vector is a JSON file: the version, how QEMU was started, what its monitor
said of the IOMMU, and the stream (XZ, in Base64).
"""

import base64
import json
import lzma

from qemu.qmp.qmp_client import ExecuteError

from .migration import await_migration, set_capabilities, state
from .paths import ROOT
from .qtest import QtestVM

FOLDER = ROOT / 'tests' / 'data'
MEMORY = '2M'
FIRMWARE_BYTES = 0x10000
COLUMNS = 100
CLOCK_NS = 10 ** 9
ARGUMENTS = (
    '-object', 'nyx-domain,id=win,isolation=shared,default-map=none',
    '-object', 'nyx-domain,id=open,isolation=shared,max-faults=7',
    '-object', 'nyx-domain,id=torn,isolation=shared,default-map=none,'
               'large-pages=off,on-recovery-limit=unplug',
    '-object', 'nyx-domain,id=peers,isolation=shared,peer-to-peer=on',
    '-device', 'nyx-testdev,id=dev,addr=6,nyx-domain=win',
    '-device', 'e1000e,id=nic,addr=8,romfile=',
    '-device', 'virtio-rng-pci,id=rng,addr=9',
    '-device', 'nyx-root-port,id=rp,addr=10,chassis=1',
    '-device', 'e1000e,id=below,bus=rp,romfile=',
    '-device', 'e1000,id=spent,addr=11,romfile=',
    '-device', 'nyx-testdev,id=peer,addr=12,nyx-domain=peers')
QUERIES = ('query-nyx-domains', 'query-nyx-devices', 'query-nyx-faults')


def _firmware(folder):
    """No firmware is run here, and the vector need not contain one."""
    path = folder.with_suffix('.rom')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(FIRMWARE_BYTES))
    return '-bios', str(path)


def known(vm):
    """What has to be the same wherever the stream is loaded."""
    seen = state(vm)
    said = {name: seen[name] for name in QUERIES}
    said['digest'] = seen['query-nyx-migration']['digest']
    return said


def start(folder, options, *arguments):
    return QtestVM(folder, *_firmware(folder), *arguments, memory=MEMORY,
                   machine_options=(*options, 'suppress-vmdesc=on'))


def _populate(vm):
    command = vm.monitor.command
    vm.qtest('clock_step', CLOCK_NS)
    for iova, gpa, size, access in ((0x100000, 0x20000, 0x10000, 'rw'),
                                    (0x400000, 0x30000, 0x1000, 'r'),
                                    (1 << 40, 0x40000, 0x1000, 'w')):
        command('nyx-map', domain='win', iova=iova, gpa=gpa, size=size,
                access=access)
    for page in range(300):
        command('nyx-map', domain='torn', iova=page * 3 << 12,
                gpa=page * 37 % 128 << 12, size=0x1000,
                access=('r', 'w', 'rw')[page % 3])
    command('nyx-unmap', domain='peers', iova=0x100000, size=0x3000)
    command('nyx-inject-fault', device='dev', address=0x5000, access='w',
            count=3)
    command('nyx-inject-fault', device='dev', address=0x9000, access='r')
    command('nyx-inject-fault', device='nic', address=0x5000, access='r',
            count=12)
    command('nyx-recover-device', device='nic')
    command('nyx-assign-device', device='nic', domain='open')
    command('nyx-set-policy', device='dev', max_faults=100,
            fault_window_ms=5000, scope='domain',
            on_recovery_limit='pause-vm')
    command('nyx-set-policy', device='peer', on_fault_limit='restore-snapshot',
            recovery='auto')
    command('nyx-set-policy', device='spent', max_recoveries=0,
            on_fault_limit='report', count_stage1=False)
    for name in 'rng', 'below', 'spent':
        command('nyx-quarantine-device', device=name)
    try:
        command('nyx-recover-device', device='spent')
    except ExecuteError:        # that is how it fails
        pass


def _change(command):
    """What tables become when they have been sent ahead."""
    command('nyx-unmap', domain='torn', iova=0x3000, size=0x1000)
    command('nyx-map', domain='torn', iova=0x4000, gpa=0x50000, size=0x2000,
            access='rw')
    command('nyx-map', domain='win', iova=1 << 44, gpa=0x40000, size=0x1000,
            access='rw')
    command('nyx-unmap', domain='open', iova=0x80000, size=0x1000)


def make(name, options, folder):
    """Write a vector of this build; returns its path."""
    vm = start(folder, options, *ARGUMENTS)
    try:
        _populate(vm)
        stream = folder / 'stream'
        command = vm.monitor.command
        set_capabilities(vm, 'pause-before-switchover')
        command('migrate', uri=f'file:{stream}')
        await_migration(vm, 'pre-switchover')
        _change(command)
        command('migrate-continue', state='pre-switchover')
        await_migration(vm, 'completed')
        vector = {'version': vm.monitor.command('query-version')['qemu'],
                  'options': list(options), 'arguments': ARGUMENTS,
                  'known': known(vm),
                  'stream': _to_text(stream.read_bytes())}
    finally:
        vm.stop()
    path = FOLDER / f'{name}.json'
    path.write_text(json.dumps(vector, indent=1) + '\n')
    return path


def _to_text(data):
    text = base64.b64encode(lzma.compress(data, preset=9)).decode()
    return [text[at:at + COLUMNS] for at in range(0, len(text), COLUMNS)]


def load(path, folder):
    """A machine that has loaded a vector, and what it has to know."""
    vector = json.loads(path.read_text())
    stream = folder.with_suffix('.stream')
    stream.parent.mkdir(parents=True, exist_ok=True)
    stream.write_bytes(lzma.decompress(
        base64.b64decode(''.join(vector['stream']))))
    vm = start(folder, vector['options'], *vector['arguments'], '-incoming',
               'defer')
    # The clock of a test does not travel.
    vm.qtest('clock_step', CLOCK_NS)
    vm.monitor.command('migrate-incoming', uri=f'file:{stream}')
    return vm, vector['known']
