# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A network card whose backend is DPDK, which translates by an IOTLB."""

import os
import shutil
import subprocess
import tempfile
import time
import unittest

from nyxtest.case import GuestTest, needs_nyx
from nyxtest.devices import Nic
from nyxtest.errors import NyxTestError
from nyxtest.guest import bring_up, pci_address
from nyxtest.vhostuser import share_memory

TESTPMD = shutil.which('dpdk-testpmd')
START_SECONDS = 60
TRAFFIC_SECONDS = 60


class Testpmd:
    """It answers ARP and echo requests to any address."""

    def __init__(self, folder):
        self.socket = folder / 'net.sock'
        self._log = folder / 'testpmd.log'
        self._run = tempfile.TemporaryDirectory(prefix='nyx-testpmd-')
        self._process = None

    def start(self):
        self.socket.unlink(missing_ok=True)
        cpus = ','.join(map(str, sorted(os.sched_getaffinity(0))))
        command = [
            'stdbuf', '-oL', TESTPMD, '--no-huge', '-m', '512', '--no-pci',
            '--no-telemetry', '--no-shconf', '--lcores', f'(0,1)@({cpus})',
            '--vdev', f'net_vhost0,iface={self.socket},iommu-support=1', '--',
            '--total-num-mbufs=8192', '--forward-mode=icmpecho',
            '--auto-start', '--no-lsc-interrupt', '--interactive']
        with self._log.open('a') as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log,
                env={'XDG_RUNTIME_DIR': self._run.name, 'HOME': '/'})
        limit = time.monotonic() + START_SECONDS
        while not self.socket.exists():
            if self._process.poll() is not None or time.monotonic() > limit:
                raise NyxTestError(f'testpmd did not start; see {self._log}.')
            time.sleep(0.1)

    def received(self):
        """Packets that the guest has sent, by testpmd's own count."""
        before = self._log.stat().st_size
        self._process.stdin.write(b'show port stats 0\n')
        self._process.stdin.flush()
        limit = time.monotonic() + START_SECONDS
        while time.monotonic() < limit:
            text = self._log.read_bytes()[before:].decode(errors='replace')
            if 'Tx-pps' in text:
                return int(text.split('RX-packets:')[1].split()[0])
            time.sleep(0.05)
        raise NyxTestError(f'testpmd shows no figures; see {self._log}.')

    def kill(self):
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process = None

    def close(self):
        self.kill()
        self._run.cleanup()


@needs_nyx
@unittest.skipUnless(TESTPMD, 'dpdk-testpmd is missing; install the Debian '
                     'package dpdk-dev')
class TestpmdTest(GuestTest):
    @classmethod
    def describe(cls, vm):
        share_memory(vm)
        vm.folder.mkdir(parents=True, exist_ok=True)
        cls.peer = Testpmd(vm.folder)
        cls.addClassCleanup(cls.peer.close)
        cls.peer.start()
        cls.nic = Nic('nic', '10.0.9.15', '10.0.9.2')
        vm.domain('cage', isolation='strict', max_faults='1000')
        vm.domain('other', isolation='strict', max_faults='1000')
        vm.domain('none', isolation='strict', default_map='none',
                  max_faults='1000')
        vm.add('-chardev', f'socket,id=c,path={cls.peer.socket},'
               'reconnect-ms=100', '-netdev',
               'vhost-user,id=net,chardev=c,queues=1')
        vm.device('virtio-net-pci', ['virtio_pci', 'virtio_net'], 'cage',
                  id='nic', netdev='net', romfile='')

    @classmethod
    def prepare(cls, vm):
        bring_up(vm, cls.nic)

    def pings(self):
        return self.vm.agent.run(f'ping -c 4 -W 2 {self.nic.host}', 60)

    def assert_pings(self):
        done = self.pings()
        self.assertEqual(done.status, 0, done.output)

    def start_flood(self):
        """Packets without end; the guest counts those that come back."""
        self.vm.agent.check('while :; do ping -c 50 -A -q '
                            f'{self.nic.host}; done >/dev/null 2>&1 & '
                            'echo $! >/run/flood')

    def stop_flood(self):
        self.vm.agent.check('kill $(cat /run/flood); killall ping; true')

    def wait_packets(self, more=10):
        before = self.peer.received()
        limit = time.monotonic() + TRAFFIC_SECONDS
        while self.peer.received() < before + more:
            self.assertLess(time.monotonic(), limit, 'no packets any more')

    def test_1_traffic(self):
        self.assert_pings()
        found = self.nyx_device('nic')
        self.assertEqual((found['backend'], found['dma']),
                         ('vhost-user', 'translating'))
        self.assert_no_faults()

    def test_2_reassignment(self):
        """To and fro between domains, and no packet is refused."""
        self.start_flood()
        for domain in ('other', 'cage') * 3:
            self.vm.monitor.command('nyx-assign-device', device='nic',
                                    domain=domain)
            self.wait_packets()
        self.stop_flood()
        self.assert_pings()
        self.assert_no_faults()

    def test_3_quarantine(self):
        """Nothing more comes out of the device, until it is recovered."""
        self.start_flood()
        self.wait_packets()
        self.vm.monitor.command('nyx-quarantine-device', device='nic')
        stopped = self.peer.received()
        self.vm.agent.run(f'ping -c 2 -W 1 {self.nic.host}')
        self.assertEqual(self.peer.received(), stopped)
        self.stop_flood()
        self.vm.monitor.command('nyx-recover-device', device='nic')
        address = pci_address(self.vm, 'nic')
        self.vm.agent.check(f'echo 1 >/sys/bus/pci/devices/{address}/remove; '
                            'echo 1 >/sys/bus/pci/rescan')
        bring_up(self.vm, self.nic)
        self.assert_pings()

    def test_4_dies(self):
        since = self.vm.monitor.position()
        self.peer.kill()
        self.vm.monitor.wait_event('NETDEV_VHOST_USER_DISCONNECTED', since)
        self.assertNotEqual(self.pings().status, 0)
        since = self.vm.monitor.position()
        self.peer.start()
        self.vm.monitor.wait_event('NETDEV_VHOST_USER_CONNECTED', since)
        bring_up(self.vm, self.nic)
        self.assert_pings()

    def test_5_nothing_allowed(self):
        self.vm.monitor.command('nyx-assign-device', device='nic',
                                domain='none')
        before = self.peer.received()
        self.assertNotEqual(self.pings().status, 0)
        self.assertEqual(self.peer.received(), before)
