# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""ACPI devices of Nyx in streams: sound ones, and such as nobody has sent."""

from nyxtest.acpi import DEVICES, set_acpi, set_zone
from nyxtest.migration import MigrationCase
from nyxtest.stream import Loader, Stream, number

MEMORY = '2M'
BLOCK, ZONE, BATTERY, LID = ('nyx-acpi-block', 'zone0/nyx-thermal-zone',
                             'bat0/nyx-battery', 'lid0/nyx-lid')
# Where things are in the sections
PENDING = 0
ZONE_CRITICAL, ZONE_HOT, ZONE_FAN0 = 5, 9, 29
BATTERY_DESIGN, BATTERY_STATE, BATTERY_CHARGE = 1, 6, 7
BLOCK_COUNT, BLOCK_CPUS, BLOCK_STATE0 = 0, 8, 12
ABSENT = 0x80000000
# Ports
SELECT, DATA, NEXT, THROTTLE = 0xb00, 0xb04, 0xb08, 0xb0c
FAN1 = 8
QUERY = ('query-nyx-acpi', {})


def reversed_devices():
    pairs = list(zip(DEVICES[::2], DEVICES[1::2]))
    return [word for pair in reversed(pairs) for word in pair]


class AcpiStreamTest(MigrationCase):

    def setUp(self):
        super().setUp()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / 'stream'

    def capture(self):
        """The stream of a VM in which each value is another than at first."""
        vm = self.start(*DEVICES, memory=MEMORY)
        set_zone(vm, temperature=850, critical=1100, active=[710, 610])
        set_acpi(vm, 'bat0', 'battery', state='discharging', charge=20000,
                 rate=5000, voltage=11000, cycles=8, full_charge=49000)
        set_acpi(vm, 'ac0', 'ac-adapter', online=False)
        set_acpi(vm, 'power0', 'power-button')
        vm.qtest('outl', SELECT, FAN1 << 8)
        vm.qtest('outl', DATA, 100)
        vm.qtest('outb', THROTTLE, 2)
        shown = vm.monitor.command('query-nyx-acpi')
        self.migrate(vm, f'file:{self.path}')
        vm.stop()
        return Stream(self.path.read_bytes()), shown

    def load(self, stream, devices=DEVICES):
        self.path.write_bytes(stream.data)
        return Loader(devices, memory=MEMORY).load(self.path, QUERY)

    def assert_load_refused(self, stream, words, devices=DEVICES):
        answers, said = self.load(stream, devices)
        self.assertIsNone(answers, 'the stream was taken over')
        self.assertIn(words, said)

    def test_state(self):
        """All of it arrives, also where the devices are named in reverse."""
        stream, shown = self.capture()
        self.assertEqual(shown['throttled'],
                         [{'cpu-index': 0, 'percent': 75}])
        for devices in DEVICES, reversed_devices():
            answers, said = self.load(stream, devices)
            self.assertTrue(answers, said)
            self.assertEqual(answers[0]['return'], shown)

    def test_other_devices(self):
        stream, _ = self.capture()
        self.assert_load_refused(
            stream, 'The stream is of a VM with 6 ACPI devices of Nyx, here '
            'are 5', DEVICES[:2] + DEVICES[4:])
        self.assert_load_refused(
            stream, "'bat0/nyx-battery'",
            [word.replace('bat0', 'bat1') for word in DEVICES])
        other = [word.replace('design-capacity=50000', 'design-capacity=60000')
                 for word in DEVICES]
        self.assert_load_refused(
            stream, "'bat0' has a design-capacity of 50000 mWh in the stream, "
            'here 60000', other)
        other = [word.replace('passive=800,', '') for word in DEVICES]
        self.assert_load_refused(
            stream, "'zone0' has other points in the stream than here", other)

    def test_hostile(self):
        """Values that nyx-acpi-set would refuse"""
        stream, _ = self.capture()

        def changed(name, at, value, size):
            content = bytearray(stream.content(name))
            content[at:at + size] = number(value, size)
            return stream.replaced(name, bytes(content))

        self.assertEqual(stream.content(ZONE)[ZONE_CRITICAL:ZONE_FAN0 + 3],
                         b''.join(number(value) for value in (
                             1100, ABSENT, 800, 710, 610, ABSENT)) +
                         b'\0\x64\0')
        for name, at, value, size, words in (
                (ZONE, PENDING, 8, 1, "notifications 0x8 for 'zone0'"),
                (LID, PENDING, 255, 1, "notifications 0xff for 'lid0'"),
                (ZONE, ZONE_CRITICAL, 1501, 4, 'critical of '),
                (ZONE, ZONE_CRITICAL, 700, 4, 'must be below critical'),
                (ZONE, ZONE_CRITICAL, ABSENT, 4, 'other points'),
                (ZONE, ZONE_HOT, 900, 4, 'other points'),
                (ZONE, ZONE_FAN0, 101, 1, "Fan 0 of 'zone0' is at 101 %"),
                (BATTERY, BATTERY_DESIGN, 1, 4, 'design-capacity'),
                (BATTERY, BATTERY_STATE, 3, 1, "'bat0' is in state 3"),
                (BATTERY, BATTERY_CHARGE, 49001, 8, "charge of 'bat0'"),
                (BATTERY, BATTERY_CHARGE, (1 << 64) - 1, 8, "charge of 'bat0'"),
                (BLOCK, BLOCK_COUNT, 5, 4, 'with 5 ACPI devices'),
                (BLOCK, BLOCK_CPUS, 0x7fffffff, 4, 'same maxcpus'),
                (BLOCK, BLOCK_STATE0, 8, 1, 'throttling state 8 for vCPU 0')):
            with self.subTest(name=name, at=at, value=value):
                self.assert_load_refused(changed(name, at, value, size), words)
        for name in BLOCK, ZONE, BATTERY, LID:
            first, end = stream.section(name)[1:]
            for cut in first, (first + end) // 2, end - 1:
                self.assert_load_refused(Stream(stream.data[:cut]), '')
