# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""vhost of a host's kernel; the host is a VM, as a test's rarely has it.

The kernel works on the queues of the guest's network card, through an IOTLB of
its own that QEMU fills and empties.
"""

from nested.case import NestedTest

HOST = '192.168.9.1'
GUEST = '192.168.9.2'
TAP = 'tap0'


class VhostNetTest(NestedTest):
    """One guest, by KVM, in which the tests go in the order of their names."""

    @classmethod
    def prepare(cls, host):
        host.load_kvm()
        host.agent.check('load-modules tun vhost_net && '
                         '[ -c /dev/vhost-net ]')
        cls.guest = host.inner(
            '-object', 'nyx-domain,id=cage,max-faults=1000',
            '-object', 'nyx-domain,id=other,max-faults=1000',
            '-object',
            'nyx-domain,id=none,default-map=none,max-faults=1000',
            '-netdev', f'tap,id=n,ifname={TAP},script=no,downscript=no,'
            'vhost=on',
            '-device',
            'virtio-net-pci,id=nic,netdev=n,romfile=,nyx-domain=cage',
            kernel=True, modules=['virtio_pci', 'virtio_net'])
        host.agent.check(f'ip addr add {HOST}/24 dev {TAP} && '
                         f'ip link set {TAP} up')

    def connect(self):
        agent = self.guest.agent
        agent.wait('[ -d /sys/class/net/eth0 ]')
        agent.check(f'ip addr flush dev eth0; ip addr add {GUEST}/24 dev eth0 '
                    '&& ip link set eth0 up')

    def pings(self):
        return self.guest.agent.run(f'ping -c 4 -W 2 {HOST}')

    def assert_pings(self):
        done = self.pings()
        self.assertEqual(done.status, 0, done.output)

    def received(self):
        """Packets that the host has got from the card."""
        return int(self.host.agent.check(
            f'cat /sys/class/net/{TAP}/statistics/rx_packets'))

    def vhost_threads(self):
        return self.host.agent.check('ps | grep -c "[v]host-" || true')

    def command(self, name, **arguments):
        return self.guest.monitor.command(name, **arguments)

    def faults(self):
        return self.command('query-nyx-faults', device='nic')

    def test_1_traffic(self):
        self.connect()
        self.assert_pings()
        self.assertNotEqual(self.vhost_threads(), '0')
        info = self.device(self.guest, 'nic')
        self.assertEqual((info['backend'], info['dma'],
                          info['faults-observable']),
                         ('vhost', 'translating', True))
        self.assertEqual(self.faults(), [])

    def test_2_reassignment(self):
        for domain in ('other', 'cage') * 3:
            self.command('nyx-assign-device', device='nic', domain=domain)
            self.assert_pings()
        self.assertEqual(self.faults(), [])

    def test_3_quarantine(self):
        self.guest.agent.check(f'ping -A -q {HOST} >/dev/null 2>&1 & '
                               'echo $! >/run/flood')
        before = self.received()
        self.host.agent.wait('[ $(cat /sys/class/net/tap0/statistics/'
                             f'rx_packets) -gt {before + 20} ]')
        self.command('nyx-quarantine-device', device='nic')
        stopped = self.received()
        self.assertNotEqual(self.pings().status, 0)
        self.assertEqual(self.received(), stopped)
        self.guest.agent.check('kill $(cat /run/flood)')
        self.command('nyx-recover-device', device='nic')
        self.guest.agent.check(
            'd=$(readlink -f /sys/class/net/eth0/device/..); a=${d##*/}; '
            'echo 1 >/sys/bus/pci/devices/$a/remove; '
            'echo 1 >/sys/bus/pci/rescan')
        self.connect()
        self.assert_pings()

    def test_4_nothing_allowed(self):
        """The kernel asks, is refused, and reaches nothing."""
        self.command('nyx-assign-device', device='nic', domain='none')
        before = self.received()
        self.assertNotEqual(self.pings().status, 0)
        self.assertEqual(self.received(), before)
        self.assertEqual({fault['type'] for fault in self.faults()},
                         {'unmapped'})
