# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What a test does in the guest: find devices, move data, keep them busy."""

import hashlib
import re
from dataclasses import dataclass

from .errors import NyxTestError

# Debian's Linux 6.12 takes no CPU that is added under TCG; 6.1 does.
REFUSED_CPU = 'dmesg | grep -q "Unable to map lapic to logical cpu number"'
# What a driver may need until it has found its device.
PROBE_SECONDS = 60


def pci_address(vm, name):
    """The address by which the guest knows a PCI function of this qdev id."""
    waiting = [dev for bus in vm.monitor.command('query-pci')
               for dev in bus['devices']]
    while waiting:
        dev = waiting.pop()
        if dev['qdev_id'] == name:
            return '0000:%02x:%02x.%x' % (dev['bus'], dev['slot'],
                                          dev['function'])
        waiting += dev.get('pci_bridge', {}).get('devices', [])
    raise NyxTestError(f'the machine has no PCI device {name}.')


def find_class(vm, kind, name, seconds=PROBE_SECONDS):
    """Name of the device of a class (block, net, ...) of a PCI function."""
    address = pci_address(vm, name)
    listing = (f'for d in /sys/class/{kind}/*; do case $(readlink -f $d) in '
               f'*/{address}/*) echo ${{d##*/}}; break;; esac; done')
    vm.agent.wait(f'[ -n "$({listing})" ]', seconds)
    return vm.agent.check(listing)


def block_device(vm, name, seconds=PROBE_SECONDS):
    """Path of the disk behind a PCI function, ready for I/O."""
    # With NVMe multipath the path nvme0c1n1 leads to the disk nvme0n1.
    device = re.sub(r'^(nvme\d+)c\d+', r'\1',
                    find_class(vm, 'block', name, seconds))
    vm.agent.wait(f'[ -b /dev/{device} ] && '
                  f'[ "$(cat /sys/class/block/{device}/size)" -gt 0 ]')
    return f'/dev/{device}'


def set_disk_timeout(vm, name, seconds):
    """How long the guest waits for a request to the disk of a PCI function."""
    device = find_class(vm, 'block', name)
    vm.agent.check(f'echo {seconds * 1000} '
                   f'>/sys/class/block/{device}/queue/io_timeout')


def bring_up(vm, nic, seconds=PROBE_SECONDS):
    """Give a card its address and wait for its link; returns its name."""
    device = find_class(vm, 'net', nic.name, seconds)
    vm.agent.check(f'ip addr flush dev {device}; '
                   f'ip addr add {nic.address}/24 dev {device} && '
                   f'ip link set {device} up')
    vm.agent.wait(f'[ "$(cat /sys/class/net/{device}/carrier)" = 1 ]')
    return device


def disk_sum(vm, device, first_mib, size_mib, seconds=60):
    """SHA-256 of an area of a disk, read past the guest's page cache."""
    return vm.agent.check(
        f'dd if={device} bs=1M skip={first_mib} count={size_mib} '
        'iflag=direct 2>/dev/null | sha256sum', seconds).split()[0]


def write_random(vm, device, first_mib, size_mib, seconds=60):
    """Fill an area of a disk with random bytes; returns their SHA-256."""
    return vm.agent.check(
        f'dd if=/dev/urandom of=/run/random bs=1M count={size_mib} '
        '2>/dev/null && '
        f'dd if=/run/random of={device} bs=1M seek={first_mib} '
        'oflag=direct conv=fsync 2>/dev/null && '
        'sha256sum </run/random && rm /run/random', seconds).split()[0]


def fetch_sum(vm, url, seconds=60):
    """SHA-256 of what the guest gets from a URL."""
    return vm.agent.check(f'timeout 20 wget -q -O /run/fetched {url} && '
                          'sha256sum </run/fetched && rm /run/fetched',
                          seconds).split()[0]


def send_sum(vm, url, size_mib, seconds=60):
    """Send random text to a URL; returns its SHA-256 here and there."""
    # wget sends a file up to the first zero byte, hence text.
    out = vm.agent.check(
        f'dd if=/dev/urandom bs=1M count={size_mib} 2>/dev/null '
        '| base64 >/run/sent && sha256sum </run/sent | cut -c 1-64 && '
        f'timeout 20 wget -q -O - --post-file /run/sent {url} && rm /run/sent',
        seconds)
    return tuple(out.split())


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Progress:
    """How far a load has come; times are the guest's, in milliseconds."""
    now_ms: int
    bytes: int
    mismatches: int
    errors: int
    gap_ms: int             # until now since the latest success
    longest_gap_ms: int     # since the load began, or restart_gap()

    @classmethod
    def parse(cls, line, uptime):
        """From a load's status line, and what /proc/uptime says."""
        words = line.split()
        known = dict(zip(words[::2], map(int, words[1::2])))
        now_ms = int(float(uptime.split()[0]) * 1000)
        # A load that is stuck does not say for how long: add it.
        gap_ms = known['gap-ms'] + max(0, now_ms - known['now-ms'])
        return cls(now_ms, known['bytes'], known['mismatches'],
                   known['errors'], gap_ms,
                   max(gap_ms, known['longest-gap-ms']))


class Load:
    """Something in the guest that moves and checks data until stopped."""

    def __init__(self, vm, name, command):
        self.name = name
        self._vm = vm
        self._pid = vm.agent.check(
            f'rm -f /run/load/{name}; setsid {command} '
            f'</dev/null >/run/load/{name}.log 2>&1 & echo $!')
        self.wait_bytes(1)

    def progress(self):
        line, uptime = self._vm.agent.check(
            f'cat /run/load/{self.name} /proc/uptime').splitlines()
        return Progress.parse(line, uptime)

    def wait_bytes(self, more, seconds=60):
        """Wait until so many more bytes have gone through, all correct."""
        status = f'/run/load/{self.name}'
        before = 0 if self._vm.agent.run(f'[ -s {status} ]').status \
            else self.progress().bytes
        self._vm.agent.wait(
            f'[ "$(awk \'{{ print $4 }}\' {status} 2>/dev/null)" -ge '
            f'{before + more} ] 2>/dev/null', seconds)

    def restart_gap(self):
        self._vm.agent.check(f'kill -USR1 {self._pid}')

    def stop(self):
        self._vm.agent.run(f'kill -9 {self._pid}')


def disk_load(vm, name, device, first_mib, size_mib):
    return Load(vm, name, f'nyx-load {name} {device} {first_mib} {size_mib}')


def network_load(vm, name, server, nic):
    return Load(vm, name, f'loop {name} {server.size} fetch '
                f'{server.url(nic)} {server.sha256}')


def sound_load(vm, name):
    return Load(vm, name, f'loop {name} 48000 timeout 5 nyx-play /dev/dsp 250')
