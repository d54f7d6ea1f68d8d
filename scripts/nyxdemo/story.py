# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What happens in the demo, and what is expected at each point of it."""

import hashlib

from qemu.qmp.qmp_client import ExecuteError

from nyxtest.guest import block_device, disk_sum, sha256

from .scene import (CAGE, LOAD_FIRST_MIB, LOAD_MIB, MAX_FAULTS,
                    MAX_RECOVERIES, ROGUE, WINDOW, WINDOW_SIZE, KernelMemory,
                    Rogue)

PAGE = 4096
PIECE = 64                      # bytes of one access of the rogue
PAGES = 16                      # more accesses than its limit allows
EVENT_SECONDS = 10
GAP_LIMIT_MS = 5000             # a busy host lets everything pause a little
DOMAINS = {'disk0': 'storage', 'disk1': 'storage', 'nic0': 'net0',
           'nic1': 'net1', ROGUE: CAGE}


class Story:
    """The acts of the demo, in order."""

    def __init__(self, scene, report):
        self._scene = scene
        self._vm = scene.vm
        self._report = report
        self._check = report.check
        self._rogue = None
        self._memory = None
        self._phases = []       # (name, progress at its start, at its end)

    def run(self):
        self.start()
        self.before()
        self.attack()
        self.cut_off()
        self.recovery()
        self.again()
        self.after()
        self.tables()

    # --- small helpers ---

    def _device(self, name=ROGUE):
        return self._vm.monitor.command('query-nyx-devices', device=name)[0]

    def _state(self, expected, name):
        found = self._device()['state']
        self._check(name, found == expected, found)

    def _wait_state(self, since, new, name):
        """An event that the rogue came into a state."""
        event = self._vm.monitor.wait_event('NYX_DEVICE_STATE', since,
                                            EVENT_SECONDS, device=ROGUE,
                                            new=new)
        self._check(name, True, event['data']['reason'])

    def _phase(self, name, action=None):
        """Measure the others over an action, and until they moved more."""
        scene = self._scene
        scene.restart_gaps()
        start = scene.progress()
        if action:
            action()
        scene.wait_progress()
        end = scene.progress()
        self._phases.append((name, start, end))
        for load, now in end.items():
            then = start[load]
            wrong = now.mismatches + now.errors
            self._check(
                f'{load} goes on {name}', wrong == 0
                and now.longest_gap_ms < GAP_LIMIT_MS,
                f'{_rate(then, now):.1f} MB/s, all sums right, longest '
                f'pause {now.longest_gap_ms} ms' if not wrong else
                f'{now.errors} errors, {now.mismatches} wrong sums')

    # --- acts ---

    def start(self):
        vm, report = self._vm, self._report
        report.act('1. A Linux guest starts')
        report.line('operator', f'{vm.machine} with {vm.cpus} vCPUs and '
                    f'{vm.memory} of memory, accelerator {vm.accel}')
        vm.start()
        vm.monitor.on_event = report.event
        report.line('guest', 'Linux ' + vm.agent.check('uname -r') + ' is up')
        for name, domain in DOMAINS.items():
            found = self._device(name)['domain']
            self._check(f'{name} is in domain {domain}', found == domain)
        self._rogue = Rogue(vm)
        self._memory = KernelMemory(vm)

    def before(self):
        report = self._report
        report.act('2. Its disks and network cards are busy')
        self._scene.start_loads()
        self._phase('before the attack')
        if not self._scene.unprotected:
            self._vm.monitor.command('nyx-map', domain=CAGE, iova=WINDOW,
                                     gpa=WINDOW, size=WINDOW_SIZE, access='rw')
            report.line('operator', f'allows the rogue a window of '
                        f'{WINDOW_SIZE >> 20} MiB at {WINDOW:#x}, no more')
        answer = self._rogue.use_window()
        self._check('the rogue works within its window',
                    answer.result == 'ok', answer.result)
        self._check('no device has a fault', self._faulty() == {},
                    str(self._faulty() or ''))

    def _faulty(self):
        return {dev['device']: dev['total-faults'] for dev in
                self._vm.monitor.command('query-nyx-devices')
                if dev['total-faults']}

    def attack(self):
        report, memory = self._report, self._memory
        report.act('3. The rogue attacks the guest\'s kernel')
        self._banner = self._vm.read_memory(memory.banner, 64)
        self._calls = self._vm.read_memory(memory.calls, PAGES * PAGE)
        report.line('guest', f'kernel banner at {memory.banner:#x}: '
                    f'"{_text(self._banner[:32])}..."')
        report.line('guest', f'{PAGES} pages from the system call table at '
                    f'{memory.calls:#x}: SHA-256 {_digest(self._calls)}...')
        self._since = self._vm.monitor.position()
        report.line('rogue', f'reads the kernel at {memory.banner:#x}')
        answer = self._rogue.read(memory.banner, 64)
        self._check('the read is refused', answer.result == 'refused',
                    answer.result)
        self._check('it brought nothing but ones',
                    bytes(answer.data) == b'\xff' * 32,
                    answer.data[:16].hex(' '))
        found = self._recorded('r')
        self._check('the read is recorded with type and address',
                    _pages(found) == {memory.banner // PAGE} and
                    {f['type'] for f in found} == {'unmapped'}, _fault(found))
        self._phase('during the attack', self._overwrite)

    def _recorded(self, access):
        """Fault records of the rogue in this direction, newest first."""
        return [fault for fault in self._vm.monitor.command(
            'query-nyx-faults', device=ROGUE) if fault['access'] == access]

    def _overwrite(self):
        memory = self._memory
        self._report.line('rogue', f'overwrites {PAGES} pages of the kernel, '
                          f'first the system call table at {memory.calls:#x}')
        answer = self._rogue.overwrite(memory.calls, PIECE, PAGES)
        self._wait_state(self._since, 'quarantined',
                         'past its limit the rogue is quarantined')
        self._vm.monitor.wait_event('NYX_FAULT_LIMIT', self._since,
                                    device=ROGUE)
        found = self._recorded('w')
        first = memory.calls // PAGE
        # The device may vanish between an access and its result.
        expected = [set(range(first, first + answer.refused + more))
                    for more in (0, 1)]
        self._check('every write is refused and recorded',
                    bool(found) and _pages(found) in expected,
                    f'{len(_pages(found))} pages, latest {_fault(found)}')
        total = self._device()['total-faults']
        self._check(f'that took more than {MAX_FAULTS} faults',
                    total > MAX_FAULTS, f'{total}')

    def cut_off(self):
        report = self._report
        report.act('4. The rogue is cut off')
        self._state('quarantined', 'it stays quarantined')
        answer = self._rogue.use_window()
        self._check('its registers read all-ones, its window is closed',
                    answer.result == 'gone', answer.result)
        self._check('bus mastering stays off, though the guest enabled it',
                    not self._rogue.bus_master())
        self._phase('while the rogue is cut off')

    def recovery(self):
        report = self._report
        report.act('5. The operator recovers it')
        since = self._vm.monitor.position()
        report.line('operator', 'nyx-recover-device rogue')
        self._vm.monitor.command('nyx-recover-device', device=ROGUE)
        self._wait_state(since, 'recovering', 'it is being recovered')
        self._wait_state(since, 'operational', 'it is operational again')
        answer = self._rogue.use_window()
        self._check('it works within its window again',
                    answer.result == 'ok', answer.result)
        self._check('one recovery is used up',
                    self._device()['recoveries'] == 1)

    def again(self):
        report, memory = self._report, self._memory
        report.act('6. It misbehaves again, and has used up its recoveries')
        since = self._vm.monitor.position()
        report.line('rogue', 'overwrites the same pages again')
        self._rogue.overwrite(memory.calls, PIECE, PAGES)
        self._wait_state(since, 'quarantined', 'it is quarantined again')
        report.line('operator', 'nyx-recover-device rogue')
        try:
            self._vm.monitor.command('nyx-recover-device', device=ROGUE)
            self._check(f'recovery number {MAX_RECOVERIES + 1} is refused',
                        False)
        except ExecuteError as err:
            self._check(f'recovery number {MAX_RECOVERIES + 1} is refused',
                        True, str(err))
        self._wait_state(since, 'failed', 'the rogue has failed')
        self._check('its registers read all-ones',
                    self._rogue.use_window().result == 'gone')

    def after(self):
        report, memory = self._report, self._memory
        report.act('7. What is left')
        self._phase('after the rogue has failed')
        self._check("the kernel's banner is unchanged",
                    self._vm.read_memory(memory.banner, 64) == self._banner)
        calls = self._vm.read_memory(memory.calls, PAGES * PAGE)
        self._check('the system call table and the pages after it are '
                    'unchanged',
                    calls == self._calls, f'SHA-256 {_digest(calls)}...')
        self._scene.stop_loads()
        for disk in self._scene.disks:
            device = block_device(self._vm, disk.name)
            self._check(
                f'{disk.name} holds the same for guest and host',
                disk_sum(self._vm, device, LOAD_FIRST_MIB, LOAD_MIB) ==
                sha256(disk.read(LOAD_FIRST_MIB, LOAD_MIB)))
        self._check('no other device has a fault',
                    set(self._faulty()) == {ROGUE}, str(self._faulty()))
        self._check('the guest is alive, its kernel reports no trouble',
                    self._vm.agent.check('echo alive') == 'alive' and
                    not self._vm.trouble(), '; '.join(self._vm.trouble()))

    def tables(self):
        names = [phase[0] for phase in self._phases]
        self._report.table(
            'Throughput in MB/s, longest pause in ms', ['device', *names],
            [[load, *(f'{_rate(start[load], end[load]):.1f}, '
                      f'{end[load].longest_gap_ms}'
                      for _, start, end in self._phases)]
             for load in self._scene.loads])
        self._report.table(
            'Devices (query-nyx-devices)',
            ['device', 'driver', 'bdf', 'domain', 'state', 'faults',
             'recoveries', 'dma'],
            [[dev['device'], dev['driver'], dev['bdf'], dev['domain'],
              dev['state'], dev['total-faults'], dev['recoveries'],
              dev['dma']]
             for dev in self._vm.monitor.command('query-nyx-devices')])


def _rate(then, now):
    """MB/s between two moments of a load."""
    return (now.bytes - then.bytes) / 1e3 / max(now.now_ms - then.now_ms, 1)


def _digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def _text(data):
    return ''.join(chr(b) if 32 <= b < 127 else '.' for b in data)


def _pages(faults):
    return {fault['address'] // PAGE for fault in faults}


def _fault(faults):
    if not faults:
        return 'no record'
    return '{type}, {access} at {address:#x}'.format(**faults[0])
