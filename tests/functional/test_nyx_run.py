# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx run: the examples of the manual, each with a Linux guest."""

import hashlib
import os
import shutil
import subprocess
import unittest

from nyxtest.nyxrun import RunCase

from nyxtest.vfiouser import LibServer
from nyxtest.vhostuser import STORAGE_DAEMON

MIB = 1 << 20



class FirstTest(RunCase):
    """first.toml: a disk, a card; what status says."""

    def test_boots(self):
        guest = self.boot(self.example('first'), 'first', '--set',
                          'nic.0.forward=[]', modules=['virtio_blk',
                                                       'virtio_net'])
        agent = guest.agent
        self.assertEqual(agent.check('nproc'), '2')
        self.assertEqual(agent.check('cat /sys/block/vda/size'),
                         str(8 * 1024 * MIB // 512))
        self.assertEqual(agent.check('cat /sys/block/vda/serial'), 'disk0')
        agent.check('ip link set eth0 up && udhcpc -q -n -i eth0', 60)
        agent.check('dd if=/dev/urandom of=/dev/vda bs=1M count=4 && sync')
        self.assert_unharmed(guest)
        devices = {dev['device']: dev for dev in
                   guest.qmp('query-nyx-devices')}
        for name in ('disk0', 'nic0', 'rng', 'port-disk0'):
            self.assertEqual(devices[name]['domain'], f'auto:{name}')
        # Four ports for what may be plugged in later
        self.assertIn('nyx-port3', devices)
        self.assertNotIn('nyx-port4', devices)
        self.assertRegex(self.says('status'), r'first +running +2')


class StorageTest(RunCase):
    """storage.toml: each kind of disk, threads, pinning."""

    def test_boots(self):
        guest = self.boot(
            self.example('storage'), 'storage',
            modules=['nvme', 'virtio_blk', 'virtio_scsi', 'ahci', 'sd_mod',
                     'sr_mod'])
        agent = guest.agent
        for name in ('nvme0n1', 'nvme1n1', 'vda', 'sda', 'sdb', 'sdc', 'sr0'):
            agent.wait(f'[ -b /dev/{name} ]')
            if name != 'sr0':
                agent.check(f'dd if=/dev/urandom of=/dev/{name} bs=64k '
                            'count=16 conv=fsync')
        for name, domain in (('pool0', 'pool'), ('pool1', 'pool'),
                             ('scsi-ctl0', 'batch'),
                             ('system', 'auto:system')):
            self.assertEqual(guest.domain_of(name), domain)
        self.assert_unharmed(guest)
        self.check_pinning(guest)
        self.check_threads(guest)

    def check_pinning(self, guest):
        for cpu in guest.qmp('query-cpus-fast'):
            self.assertEqual(os.sched_getaffinity(cpu['thread-id']),
                             {cpu['cpu-index']})
        threads = {thread['id']: thread['thread-id'] for thread in
                   guest.qmp('query-iothreads')}
        self.assertEqual(os.sched_getaffinity(threads['fast']), {1})

    def check_threads(self, guest):
        """Disks are served by the threads that the spec names."""
        for device, thread in (('system', 'fast'), ('scsi-ctl0', 'slow')):
            path = f'/machine/peripheral/{device}/virtio-backend'
            self.assertEqual(
                guest.qmp('qom-get', path=path, property='iothread'),
                f'/objects/{thread}')


class NetworkTest(RunCase):
    """network.toml: each kind of card, and a way in."""

    def test_boots(self):
        guest = self.boot(
            self.example('network'), 'network', '--set',
            'nic.0.forward=["tcp:18080:80"]',
            modules=['virtio_net', 'e1000e', 'igb', 'e1000'])
        agent = guest.agent
        cards = agent.check("for f in /sys/class/net/*/device/driver; do "
                            "basename $(readlink $f); done | sort")
        self.assertEqual(cards.split(), ['e1000', 'e1000e', 'igb',
                                         'virtio_net'])
        agent.check('for f in /sys/class/net/*; do [ "$(cat $f/address)" != '
                    '52:54:00:00:00:01 ] || ln -s $f /tmp/front; done; '
                    'n=$(basename $(readlink /tmp/front)); ip link set $n up;'
                    ' udhcpc -q -n -i $n -s /bin/true; '
                    'ip addr add 10.0.2.15/24 dev $n; mkdir -p /tmp/www; '
                    'echo hello from the guest >/tmp/www/index.html; '
                    'httpd -h /tmp/www', 60)
        # busybox has no curl to be asked from outside by; the host has one.
        import urllib.request  # pylint: disable=import-outside-toplevel
        with urllib.request.urlopen('http://127.0.0.1:18080/index.html',
                                    timeout=60) as answer:
            self.assertEqual(answer.read(), b'hello from the guest\n')
        counted = guest.qmp('query-nyx-net-counters') \
            if self.has_command(guest, 'query-nyx-net-counters') else None
        self.assertNotEqual(counted, [])
        for name, domain in (('front', 'tenant'), ('back', 'tenant'),
                             ('sriov', 'auto:sriov'), ('old', 'auto:old')):
            self.assertEqual(guest.domain_of(name), domain)
        self.assert_unharmed(guest)

    @staticmethod
    def has_command(guest, name):
        return name in (c['name'] for c in guest.qmp('query-commands'))


class BridgeTest(RunCase):
    """bridge.toml: interfaces that come and go with the VM."""

    BRIDGE = 'nyxbr0'

    def setUp(self):
        super().setUp()
        if os.geteuid() != 0 or not shutil.which('ip') or \
                not os.path.exists('/dev/net/tun'):
            self.skipTest('a bridge needs root, ip and /dev/net/tun')
        done = subprocess.run(['ip', 'link', 'add', 'name', self.BRIDGE,
                               'type', 'bridge'], capture_output=True,
                              text=True, check=False)
        if done.returncode:
            self.skipTest(f'no bridge can be made: {done.stderr.strip()}')
        self.addCleanup(subprocess.run, ['ip', 'link', 'delete', 'dev',
                                         self.BRIDGE], check=True)
        subprocess.run(['ip', 'addr', 'add', '203.0.113.1/24', 'dev',
                        self.BRIDGE], check=True)
        subprocess.run(['ip', 'link', 'set', self.BRIDGE, 'up'], check=True)

    def members(self):
        return os.listdir(f'/sys/class/net/{self.BRIDGE}/brif')

    def test_boots(self):
        changes = [] if os.path.exists('/dev/vhost-net') else \
            ['--set', 'nic.1.vhost=false']
        guest = self.boot(self.example('bridge'), 'bridge', *changes,
                          modules=['virtio_net'])
        self.assertEqual(len(self.members()), 2)
        guest.agent.check('ip link set eth0 up; '
                          'ip addr add 203.0.113.2/24 dev eth0; '
                          'ping -c 3 -W 10 203.0.113.1')
        self.assert_unharmed(guest)
        self.says('stop', 'bridge', '--now')
        self.assertEqual(self.members(), [])

    def test_tap(self):
        """An interface that was there before, with two queues."""
        name = 'nyxtap0'
        subprocess.run(['ip', 'tuntap', 'add', 'dev', name, 'mode', 'tap',
                        'multi_queue'], check=True)
        self.addCleanup(subprocess.run, ['ip', 'link', 'delete', 'dev', name],
                        check=True)
        subprocess.run(['ip', 'link', 'set', name, 'master', self.BRIDGE,
                        'up'], check=True)
        spec = self.spec('memory = "256M"\ncpus = 2\n[[nic]]\n'
                         f'type = "tap"\ninterface = "{name}"\nqueues = 2\n')
        guest = self.boot(spec, 'vm', modules=['virtio_net'])
        guest.agent.check('ip link set eth0 up; '
                          'ip addr add 203.0.113.3/24 dev eth0; '
                          'ping -c 3 -W 10 203.0.113.1')
        self.assertEqual(guest.agent.check(
            'ls -d /sys/class/net/eth0/queues/tx-* | wc -l'), '2')
        self.says('stop', 'vm', '--now')
        self.assertEqual(self.members(), [name])

    def test_no_bridge(self):
        spec = self.example('bridge')
        said = self.fails('run', spec, '--set', 'nic.0.bridge=nyxnone0')
        self.assertIn('joining', said[0])
        self.assertIn('nyxnone0', said[0])
        self.assertEqual(self.members(), [])


class WindowTest(RunCase):
    """window.toml: mapped before the guest runs."""

    def test_boots(self):
        guest = self.boot(self.example('window'), 'window')
        cage = [domain for domain in guest.qmp('query-nyx-domains')
                if domain['id'] == 'cage'][0]
        self.assertEqual(cage['mapped-bytes'], 2 * MIB + 65536)
        self.assertEqual(cage['devices'], ['dma'])
        self.assertEqual(guest.qmp('query-nyx-iommu')['stage1'], 'intel')
        self.assertIn('DMAR', guest.console())
        self.assert_unharmed(guest)


class ServersTest(RunCase):
    """servers.toml: with real servers."""

    def test_boots(self):
        image = self.folder / 'remote.raw'
        data = os.urandom(4 * MIB)
        image.write_bytes(data)
        if not STORAGE_DAEMON.exists():
            self.skipTest(f'{STORAGE_DAEMON} is not built')
        daemon = subprocess.Popen(
            [STORAGE_DAEMON, '--blockdev',
             f'file,node-name=d,filename={image}', '--export',
             'vhost-user-blk,id=e,node-name=d,writable=on,addr.type=unix,'
             'addr.path=blk.sock', '--pidfile', 'daemon.pid'],
            cwd=self.folder)
        self.addCleanup(daemon.wait)
        self.addCleanup(daemon.kill)
        while not (self.folder / 'daemon.pid').exists():
            self.assertIsNone(daemon.poll())
        server = LibServer(self.folder / 'dev.sock')
        self.addCleanup(server.stop)
        guest = self.boot(self.example('servers'), 'servers',
                          modules=['virtio_blk'])
        guest.agent.wait('[ -b /dev/vda ]')
        said = guest.agent.check('sha256sum </dev/vda')
        self.assertEqual(said.split()[0], hashlib.sha256(data).hexdigest())
        devices = {dev['device']: dev for dev in
                   guest.qmp('query-nyx-devices')}
        self.assertEqual(devices['remote-disk']['backend'], 'vhost-user')
        self.assertEqual(devices['remote-device']['backend'], 'vfio-user')
        self.assertEqual(devices['remote-device']['domain'], 'untrusted')
        self.assert_unharmed(guest)


class MigrationTest(RunCase):
    """A spec that waits for a guest gets one."""

    def test_moves(self):
        # What is pinned starts stopped, and is to run here all the same.
        text = 'memory = "256M"\n[cpus]\npin = ["%d"]\n' % \
            min(os.sched_getaffinity(0))
        if shutil.which('swtpm'):
            text = f'tpm = true\n{text}'
        guest = self.boot(self.spec(text), 'vm')
        there = self.spec(text, 'there')
        way = f'unix:{self.run_dir}/way'
        target = self.launch(there, 'there', '--set', f'migration={way}')
        self.assertEqual(target.qmp('query-status')['status'], 'inmigrate')
        guest.agent.check('echo kept >/tmp/mark')
        pcr = 'cat /sys/class/tpm/tpm0/pcr-sha256/0; true'
        before = guest.agent.check(pcr)
        guest.qmp('migrate', uri=way)
        # pylint: disable=import-error,import-outside-toplevel
        from nyxcli.vm import connect
        with connect(str(target.folder / 'events.sock')) as vm:
            if vm.execute('query-status')['status'] != 'running':
                for event in vm.events(60):
                    if event['event'] == 'RESUME':
                        break
        self.assertEqual(target.agent.check('cat /tmp/mark'), 'kept')
        self.assertEqual(target.agent.check(pcr), before)
        self.assertEqual(target.qmp('query-status')['status'], 'running')


class SnapshotTest(RunCase):
    """snapshot.load goes on where the guest was."""

    def test_goes_on(self):
        text = 'memory = "256M"\n[[disk]]\nfile = "s.qcow2"\ncreate = "64M"\n'
        spec = self.spec(text)
        guest = self.boot(spec, 'vm')
        guest.agent.check('echo kept >/tmp/mark')
        said = guest.qmp('human-monitor-command',
                         **{'command_line': 'savevm one'})
        self.assertEqual(said, '')
        self.says('stop', 'vm', '--now')
        again = self.launch(spec, 'vm', '--set', 'snapshot=one')
        self.assertEqual(again.agent.check('cat /tmp/mark'), 'kept')


class KvmTest(RunCase):
    """Under KVM, as far as the firmware: a guest may be too much for it."""

    @unittest.skipUnless(os.access('/dev/kvm', os.R_OK | os.W_OK),
                         '/dev/kvm cannot be opened')
    def test_firmware(self):
        """SeaBIOS says on the first serial port what it starts from."""
        log = self.folder / 'bios.log'
        spec = self.spec(f'''memory = "256M"
machine = {{ accel = "kvm" }}
[qemu]
arguments = ["-chardev", "file,id=bios,path={log}",
             "-device", "isa-debugcon,iobase=0x402,chardev=bios"]
[[disk]]
file = "x.raw"
create = "16M"
''')
        self.addCleanup(self.nyx, 'stop', 'vm', '--now')
        self.says('run', '--detach', spec)
        done = subprocess.run(
            ['timeout', '60', 'sh', '-c', f'tail -c +1 -F {log} 2>/dev/null | '
             'grep -m 1 "No bootable device"'], capture_output=True,
            text=True, check=False)
        self.assertIn('No bootable device', done.stdout)
        self.assertTrue(self.about()['enabled'])

    def about(self):
        # pylint: disable=import-error,import-outside-toplevel
        from nyxcli.vm import connect
        with connect(str(self.run_dir / 'vm' / 'qmp.sock')) as vm:
            return vm.execute('query-kvm')
