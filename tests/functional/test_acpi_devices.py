# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A Linux guest with thermal zone, battery, AC adapter, lid and buttons."""

import re
import shutil

from nyxtest.acpi import (
    DEVICES, EV_KEY, EV_SW, KEY_POWER, KEY_SLEEP, MODULES, SECONDS, SW_LID,
    Reader, await_fans, await_state, by_type, cpu_share, guest_table, iasl,
    input_device, query, read, set_acpi, set_zone, wait_file)
from nyxtest.case import GuestTest, needs_nyx
from nyxtest.move import move
from nyxtest.stage1 import Stage1Test

SUPPLY = '/sys/class/power_supply'
CPUS = 2
SLOWED = 40     # percent


class _AcpiTest(GuestTest):
    cpus = CPUS
    memory = '256M'

    @classmethod
    def describe(cls, vm):
        super().describe(vm)
        vm.add(*DEVICES, modules=MODULES)

    @property
    def zone(self):
        zones = by_type(self.vm, 'thermal', 'acpitz')
        self.assertEqual(len(zones), 1)
        return zones[0]

    def cooling(self, kind):
        """States of all cooling devices of a type."""
        return [int(read(self.vm, f'{folder}/cur_state'))
                for folder in by_type(self.vm, 'thermal', kind)]

    def await_throttled(self, percent):
        """Wait until all vCPUs have that speed at most; 100: none has less."""
        def reached(state):
            if percent == 100:
                return not state['throttled']
            return sum(cpu['percent'] <= percent
                       for cpu in state['throttled']) == CPUS

        return await_state(self.vm, reached, f'vCPUs at {percent} %')

    def test_00_thermal_zone(self):
        """Linux shows the zone with its points and what cools it."""
        zone = self.zone
        self.assertEqual(read(self.vm, f'{zone}/temp'), '30000')
        points = self.vm.agent.check(
            f'for t in {zone}/trip_point_*_type; do '
            'echo $(cat $t) $(cat ${t%type}temp); done').splitlines()
        self.assertEqual(sorted(points), [
            'active 60000', 'active 70000', 'critical 100000',
            'passive 80000'])
        self.assertEqual(self.cooling('Fan'), [0, 0])
        self.assertEqual(self.cooling('Processor'), [0] * CPUS)

    def test_zz_kernel_unharmed(self):
        """The guest is well, gets too hot, and shuts down."""
        super().test_zz_kernel_unharmed()
        # There is no init here that would do what orderly_poweroff() asks.
        self.vm.agent.check('echo "/bin/busybox poweroff -f" '
                            '>/proc/sys/kernel/poweroff_cmd')
        since = self.vm.monitor.position()
        set_zone(self.vm, temperature=1000)
        event = self.vm.monitor.wait_event('SHUTDOWN', since, SECONDS)
        self.assertEqual(event['data'],
                         {'guest': True, 'reason': 'guest-shutdown'})
        self.assertIn('critical temperature reached', self.vm.console())


@needs_nyx
class AcpiTest(_AcpiTest):
    """stage1=none"""

    def test_10_power_supplies(self):
        battery, adapter = f'{SUPPLY}/BAT0', f'{SUPPLY}/ADP0'
        shown = {name: read(self.vm, f'{battery}/{name}') for name in (
            'type', 'present', 'energy_full_design', 'energy_full',
            'energy_now', 'voltage_min_design', 'cycle_count', 'technology',
            'model_name', 'serial_number', 'manufacturer')}
        self.assertEqual(shown, {
            'type': 'Battery', 'present': '1', 'energy_full_design':
            '50000000', 'energy_full': '50000000', 'energy_now': '30000000',
            'voltage_min_design': '12000000', 'cycle_count': '7',
            'technology': 'Li-ion', 'model_name': 'Nyx-1',
            'serial_number': '0815', 'manufacturer': 'Nyx'})
        self.assertEqual(read(self.vm, f'{adapter}/online'), '1')

    def test_11_power_supply_events(self):
        battery, adapter = f'{SUPPLY}/BAT0', f'{SUPPLY}/ADP0'
        set_acpi(self.vm, 'ac0', 'ac-adapter', online=False)
        set_acpi(self.vm, 'bat0', 'battery', state='discharging',
                 charge=2400, rate=8000, voltage=10800)
        wait_file(self.vm, f'{adapter}/online', 0)
        for name, value in (('status', 'Discharging'),
                            ('energy_now', 2400000), ('power_now', 8000000),
                            ('voltage_now', 10800000),
                            ('capacity_level', 'Critical')):
            wait_file(self.vm, f'{battery}/{name}', value)
        set_acpi(self.vm, 'bat0', 'battery', state='charging', cycles=8)
        wait_file(self.vm, f'{battery}/status', 'Charging')
        wait_file(self.vm, f'{battery}/cycle_count', 8)
        set_acpi(self.vm, 'bat0', 'battery', present=False)
        self.vm.agent.wait(f'[ ! -e {battery} ]', SECONDS)
        set_acpi(self.vm, 'bat0', 'battery', present=True)
        wait_file(self.vm, f'{battery}/present', 1)

    def test_20_lid(self):
        reader = Reader(self.vm, input_device(self.vm, 'PNP0C0D'))
        set_acpi(self.vm, 'lid0', 'lid', closed=True)
        wait_file(self.vm, '/proc/acpi/button/lid/LID0/state',
                  'state:      closed')
        set_acpi(self.vm, 'lid0', 'lid', closed=False)
        self.assertEqual(reader.wait(2), [(EV_SW, SW_LID, 1),
                                          (EV_SW, SW_LID, 0)])

    def test_21_buttons(self):
        for device, kind, acpi_id, key in (
                ('power0', 'power-button', 'PNP0C0C', KEY_POWER),
                ('sleep0', 'sleep-button', 'PNP0C0E', KEY_SLEEP)):
            with self.subTest(device):
                reader = Reader(self.vm, input_device(self.vm, acpi_id))
                set_acpi(self.vm, device, kind)
                self.assertEqual(reader.wait(2), [(EV_KEY, key, 1),
                                                  (EV_KEY, key, 0)])
                self.assertEqual(query(self.vm, device)['presses'], 1)
                self.assertFalse(query(self.vm, device)['pending'])

    def test_30_active_cooling(self):
        """Each active point has its fan."""
        set_zone(self.vm, temperature=650)
        await_fans(self.vm, 0, 100)
        set_zone(self.vm, temperature=750)
        await_fans(self.vm, 100, 100)
        self.assertEqual(self.cooling('Fan'), [1, 1])
        # Points move, and Linux looks again when it gets cooler.
        set_zone(self.vm, active=[790, 600])
        self.vm.agent.wait(f'grep -q 79000 {self.zone}/trip_point_*_temp',
                           SECONDS)
        set_zone(self.vm, temperature=740)
        await_fans(self.vm, 0, 100)
        set_zone(self.vm, temperature=300)
        await_fans(self.vm, 0, 0)

    def test_31_passive_cooling(self):
        """Above its point the processors run less and less of the time."""
        self.vm.agent.check('for i in 0 1; do (while :; do :; done) '
                            '</dev/null >/dev/null 2>&1 & '
                            'echo $! >>/run/busy; done')
        set_zone(self.vm, temperature=900)
        self.await_throttled(SLOWED)
        self.assertTrue(all(state >= 5 for state in self.cooling('Processor')))
        for cpu in range(CPUS):
            # On a busy host it may have less.
            self.assertLess(cpu_share(self.vm, cpu, 1), 0.6)
        set_zone(self.vm, temperature=300)
        self.await_throttled(100)
        self.vm.agent.check('kill $(cat /run/busy)')

    def test_40_tables(self):
        """iasl takes our part of the DSDT apart and together, and is silent."""
        if not shutil.which('iasl'):
            self.skipTest('there is no iasl; install acpica-tools')
        folder = self.vm.folder
        table = guest_table(self.vm, 'DSDT', folder)
        status, said = iasl('-d', table, folder=folder)
        self.assertEqual(status, 0, said)
        source = table.with_suffix('.dsl')
        status, said = iasl('-vi', '-tc', source, folder=folder)
        self.assertEqual(status, 0, said)
        lines = source.read_text().splitlines()
        first = next(number for number, line in enumerate(lines, 1)
                     if line.strip() == 'Device (NYXA)')
        indent = lines[first - 1].index('Device')
        last = next(number for number, line in enumerate(lines, 1)
                    if number > first and line == ' ' * indent + '}')
        self.assertGreater(last - first, 300)
        ours = [line for line in said.splitlines()
                for at in re.findall(r'\.dsl\((\d+)\)', line)
                if first <= int(at) <= last]
        self.assertEqual(ours, [])

    def test_50_migration(self):
        """What the operator and the guest have set arrives, and works on."""
        set_acpi(self.vm, 'lid0', 'lid', closed=True)
        set_acpi(self.vm, 'bat0', 'battery', state='charging', charge=12345)
        set_zone(self.vm, temperature=850, active=[700, 600])
        await_fans(self.vm, 100, 100)
        self.await_throttled(SLOWED)
        before = self.vm.monitor.command('query-nyx-acpi')
        move(self.vm)
        after = self.vm.monitor.command('query-nyx-acpi')
        self.assertEqual(after['devices'], before['devices'])
        self.assertEqual(len(after['throttled']), CPUS)
        wait_file(self.vm, f'{SUPPLY}/BAT0/energy_now', 12345000)
        set_zone(self.vm, temperature=300)
        await_fans(self.vm, 0, 0)
        self.await_throttled(100)


@needs_nyx
class AcpiStage1Test(_AcpiTest, Stage1Test):
    """A guest with an IOMMU, which sleeps"""
    kind = 'intel'

    def sleep(self):
        """Send the guest to S3: what awake() wants to know."""
        since = self.vm.monitor.position()
        command = self.vm.agent.begin('echo mem >/sys/power/state')
        self.vm.monitor.wait_event('SUSPEND', since, SECONDS)
        return since, command

    def awake(self, since, command):
        """The guest wakes; its serial port loses what comes before that."""
        self.vm.monitor.wait_event('WAKEUP', since, SECONDS)
        self.assertEqual(
            self.vm.agent.finish(command, 'sleep', SECONDS).status, 0)

    def test_10_lid_wakes(self):
        """What happens while the guest sleeps, it knows when it is awake."""
        set_acpi(self.vm, 'lid0', 'lid', closed=True)
        since, command = self.sleep()
        set_acpi(self.vm, 'bat0', 'battery', state='discharging', rate=500,
                 charge=29000)
        self.assertEqual(self.vm.monitor.seen('WAKEUP', since), [])
        set_acpi(self.vm, 'lid0', 'lid', closed=False)
        self.awake(since, command)
        wait_file(self.vm, '/proc/acpi/button/lid/LID0/state',
                  'state:      open')
        wait_file(self.vm, f'{SUPPLY}/BAT0/energy_now', 29000000)

    def test_11_button_wakes(self):
        since, command = self.sleep()
        set_acpi(self.vm, 'power0', 'power-button')
        self.awake(since, command)
        # Events come as before.
        set_zone(self.vm, temperature=650)
        await_fans(self.vm, 0, 100)
        set_zone(self.vm, temperature=300)
        await_fans(self.vm, 0, 0)

    def test_20_reset(self):
        """After a reset the guest starts anew, in the world as it is."""
        set_zone(self.vm, temperature=650)
        await_fans(self.vm, 0, 100)
        self.vm.reset()
        self.assertEqual(read(self.vm, f'{self.zone}/temp'), '65000')
        await_fans(self.vm, 0, 100)
        set_zone(self.vm, temperature=300)
        await_fans(self.vm, 0, 0)
