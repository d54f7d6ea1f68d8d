# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What a PC has beside its PCI devices, as Linux finds and uses it."""

import base64
import re
import shutil
import struct
import time

from nyxtest.acpi import EV_KEY, Reader, guest_table, iasl, input_device
from nyxtest.case import GuestTest
from nyxtest.devices import add_disk, medium
from nyxtest.errors import NyxTestError
from nyxtest.guest import block_device, disk_sum, sha256

SECONDS = 240
MIB = 1 << 20
NODES = 2
NODE_MIB = 128
LATENCY_NS, FAR_LATENCY_NS = 20, 80
FLOPPY_KIB = 1440
KEY_A, EV_REL, REL_X = 30, 2, 0
TABLES = {'APIC', 'DSDT', 'FACP', 'FACS', 'HMAT', 'HPET', 'MCFG', 'SLIT',
          'SRAT', 'WAET'}
CLOCK = '/sys/devices/system/clocksource/clocksource0'
RTC = '/sys/class/rtc/rtc0'
E820 = re.compile(r'BIOS-e820: \[mem 0x(\w+)-0x(\w+)\] (.+)')


def interrupts(vm):
    """First word of a line of /proc/interrupts -> (counts, the rest)."""
    lines = vm.agent.check('cat /proc/interrupts').splitlines()
    cpus = len(lines[0].split())
    rows = {}
    for line in lines[1:]:
        name, _, rest = line.partition(':')
        words = rest.split()
        count = next((at for at, word in enumerate(words[:cpus])
                      if not word.isdigit()), min(cpus, len(words)))
        rows[name.strip()] = (list(map(int, words[:count])),
                              ' '.join(words[count:]))
    return rows


def await_more(vm, name, before):
    """Wait until a line has counted more interrupts than before."""
    vm.agent.wait(
        f"[ $(awk '$1 == \"{name}:\" {{ n = 0; for (i = 2; $i ~ /^[0-9]+$/; "
        f"i++) n += $i; print n }}' /proc/interrupts) -gt {before} ]", SECONDS)


def has_module(vm, name):
    return vm.agent.run(f'[ -e /lib/modules/{name}.load ]').status == 0


class ChipsetTest(GuestTest):
    """With ACPI, as guests run nowadays; two nodes, for tables of ACPI 6."""

    cpus = f'{NODES},sockets={NODES},cores=1,threads=1'
    memory = f'{NODES * NODE_MIB}M'

    @classmethod
    def describe(cls, vm):
        vm.machine_options.append('hmat=on')
        for node in range(NODES):
            vm.add('-object',
                   f'memory-backend-ram,id=ram{node},size={NODE_MIB}M',
                   '-numa', f'node,nodeid={node},cpus={node},memdev=ram{node},'
                   f'initiator={node}')
        vm.add('-numa', 'dist,src=0,dst=1,val=30')
        for first in range(NODES):
            for second in range(NODES):
                latency = LATENCY_NS if first == second else FAR_LATENCY_NS
                vm.add('-numa', f'hmat-lb,initiator={first},target={second},'
                       'hierarchy=memory,data-type=access-latency,'
                       f'latency={latency}')
        cls.disk = add_disk(vm, 'nvme', 'disk0')
        cls.floppy = medium(vm, 'floppy', 2)
        with cls.floppy.open('r+b') as file:
            file.truncate(FLOPPY_KIB << 10)
        vm.add('-device', 'isa-fdc,id=fdc',
               '-device', 'floppy,unit=0,drive=floppy', modules=('evdev',))
        for number, irq in ((2, 5), (3, 7)):
            vm.add('-chardev', f'ringbuf,id=com{number},size=4096', '-device',
                   f'isa-serial,index={number},irq={irq},chardev=com{number}')

    def test_10_tables(self):
        """All tables of ACPI are whole, and iasl can read them."""
        names = set(self.vm.agent.check(
            'cd /sys/firmware/acpi/tables; for t in *; do '
            '[ -f $t ] && echo $t; done; true').split())
        self.assertLessEqual(TABLES, names)
        revisions = {}
        for name in sorted(names - {'FACS'}):
            path = guest_table(self.vm, name, self.vm.folder)
            table = path.read_bytes()
            signature, size, revisions[name] = struct.unpack_from('<4sIB',
                                                                  table)
            self.assertEqual((signature.decode(), size),
                             (name[:4], len(table)))
            self.assertEqual(sum(table) % 256, 0, f'checksum of {name}')
            if shutil.which('iasl'):
                status, said = iasl('-d', path, folder=self.vm.folder)
                self.assertEqual(status, 0, said)
        self.assertGreaterEqual(revisions['FACP'], 3)
        self.assertGreaterEqual(revisions['APIC'], 3)
        self.assertGreaterEqual(revisions['HMAT'], 2)   # ACPI 6.3
        self.assertIn('ACPI: PM: (supports S0 S3 S4 S5)', self.vm.console())

    def test_11_nodes(self):
        """Linux has the distances of SRAT and SLIT, the latency of HMAT."""
        path = '/sys/devices/system/node'
        read = self.vm.agent.check
        self.assertEqual(read(f'cat {path}/node?/cpulist').split(),
                         ['0', '1'])
        self.assertEqual(read(f'cat {path}/node?/distance').splitlines(),
                         ['10 30', '30 10'])
        self.assertEqual(
            read(f'cat {path}/node?/access0/initiators/read_latency').split(),
            [str(LATENCY_NS)] * NODES)

    def test_12_e820(self):
        """All memory is there, and nothing lies over something else."""
        areas = sorted((int(first, 16), int(last, 16), kind.strip())
                       for first, last, kind in
                       E820.findall(self.vm.console()))
        for (_, last, _), (first, _, _) in zip(areas, areas[1:]):
            self.assertLess(last, first)
        usable = sum(last + 1 - first for first, last, kind in areas
                     if kind == 'usable')
        self.assertLessEqual(usable, NODES * NODE_MIB * MIB)
        self.assertGreater(usable, (NODES * NODE_MIB - 2) * MIB)
        table = guest_table(self.vm, 'MCFG', self.vm.folder).read_bytes()
        base, _, _, last_bus = struct.unpack_from('<QHBB', table, 44)
        self.assertTrue(any(
            first <= base and base + (last_bus + 1 << 20) - 1 <= last
            for first, last, kind in areas if kind == 'reserved'), areas)

    def test_20_interrupt_controllers(self):
        """IOAPIC, local APICs with their timers and IPIs, and MSI."""
        rows = interrupts(self.vm)
        for pin, user in (('1', 'i8042'), ('4', 'ttyS0'), ('8', 'rtc0'),
                          ('9', 'acpi'), ('12', 'i8042')):
            self.assertRegex(rows[pin][1], rf'IO-APIC +{pin}-\w+ +{user}')
        for kind in ('LOC', 'CAL'):
            self.assertEqual(len(rows[kind][0]), NODES)
            for cpu, count in enumerate(rows[kind][0]):
                self.assertGreater(count, 0, f'{kind} of CPU {cpu}')
        self.assertEqual(rows['ERR'][0], [0])
        await_more(self.vm, 'LOC', sum(rows['LOC'][0]))
        device = block_device(self.vm, 'disk0', SECONDS)
        self.assertEqual(disk_sum(self.vm, device, 0, 4, SECONDS),
                         sha256(self.disk.read(0, 4)))
        self.assertTrue(any('MSI' in text and 'nvme0q' in text and sum(counts)
                            for counts, text in interrupts(self.vm).values()))

    def test_30_clocks(self):
        """HPET and ACPI's timer go as fast as the host's clock."""
        for name in ('hpet', 'acpi_pm'):
            with self.subTest(name):
                self.vm.agent.check(f'echo {name} >{CLOCK}/current_clocksource')
                self.assertEqual(
                    self.vm.agent.check(f'cat {CLOCK}/current_clocksource'),
                    name)
                self.check_rate()

    def check_rate(self):
        """Between two looks the guest counts what passes here."""
        before = time.monotonic()
        first = self.uptime()
        after_first = time.monotonic()
        self.vm.agent.check('sleep 1')
        before_last = time.monotonic()
        last = self.uptime()
        after = time.monotonic()
        self.assertGreater(last - first,
                           (before_last - after_first) * 0.98 - 0.05)
        self.assertLess(last - first, (after - before) * 1.02 + 0.05)

    def uptime(self):
        return float(self.vm.agent.check('cat /proc/uptime').split()[0])

    def test_31_rtc(self):
        """It has the host's time, and its alarm comes."""
        before = int(time.time())
        epoch = int(self.vm.agent.check(f'cat {RTC}/since_epoch'))
        self.assertGreaterEqual(epoch, before - 2)
        self.assertLessEqual(epoch, time.time() + 2)
        count = sum(interrupts(self.vm)['8'][0])
        # That one is set tells its time, that it has come empties the file.
        self.vm.agent.wait(f'echo +2 >{RTC}/wakealarm', SECONDS)
        due = int(self.vm.agent.check(f'cat {RTC}/wakealarm') or epoch)
        self.vm.agent.wait(f'[ -z "$(cat {RTC}/wakealarm)" ]', SECONDS)
        self.assertGreaterEqual(
            int(self.vm.agent.check(f'cat {RTC}/since_epoch')), due)
        self.assertGreater(sum(interrupts(self.vm)['8'][0]), count)

    def test_40_keyboard(self):
        reader = Reader(self.vm, input_device(self.vm, 'isa0060/serio0'))
        self.vm.monitor.command('send-key', keys=[{'type': 'qcode',
                                                   'data': 'a'}])
        # Press and release: scan code, key, end of report.
        events = [event for event in reader.wait(3) if event[0] == EV_KEY]
        self.assertEqual(events, [(EV_KEY, KEY_A, 1), (EV_KEY, KEY_A, 0)])

    def test_41_mouse(self):
        if not has_module(self.vm, 'psmouse'):
            self.skipTest('this kernel has no psmouse')
        self.vm.agent.check('load-modules psmouse')
        self.vm.agent.wait('grep -q isa0060/serio1/input0 '
                           '/sys/class/input/event*/device/phys', SECONDS)
        reader = Reader(self.vm, input_device(self.vm, 'isa0060/serio1'))
        self.vm.monitor.command('input-send-event', events=[
            {'type': 'rel', 'data': {'axis': 'x', 'value': 5}}])
        self.assertEqual(reader.wait(1), [(EV_REL, REL_X, 5)])

    def test_50_uarts(self):
        """Four of them; the first two are at work here anyway."""
        ports = re.findall(r'^(\d): uart:16550A port:0*(\w+) irq:(\d+)',
                           self.vm.agent.check('cat /proc/tty/driver/serial'),
                           re.M)
        self.assertEqual(ports, [('0', '3F8', '4'), ('1', '2F8', '3'),
                                 ('2', '3E8', '5'), ('3', '2E8', '7')])
        for number in (2, 3):
            text = f'by port {number}'
            self.vm.agent.check(f'stty -F /dev/ttyS{number} raw && '
                                f'printf "%s" "{text}" >/dev/ttyS{number}')
            self.assertEqual(self.received(f'com{number}', len(text)), text)

    def received(self, chardev, size):
        limit = time.monotonic() + SECONDS
        data = b''
        while len(data) < size:
            data += base64.b64decode(self.vm.monitor.command(
                'ringbuf-read', device=chardev, size=size, format='base64'))
            if time.monotonic() > limit:
                raise NyxTestError(f'{chardev} has only had {data!r}')
        return data.decode()

    def test_60_isa_dma(self):
        """A floppy is read by the DMA controller's channel 2."""
        if not has_module(self.vm, 'floppy'):
            self.skipTest('this kernel has no driver for floppy disks')
        self.vm.agent.check('load-modules floppy', SECONDS)
        self.vm.agent.wait('[ -b /dev/fd0 ]', SECONDS)
        said = self.vm.agent.check(
            'exec 3</dev/fd0; dd bs=18k count=20 <&3 2>/dev/null '
            '| sha256sum; cat /proc/dma', SECONDS)
        self.assertEqual(said.split()[0],
                         sha256(self.floppy.read_bytes()[:20 * 18 << 10]))
        self.assertRegex(said, r' 2: floppy\n *4: cascade')
        self.assert_no_faults()
