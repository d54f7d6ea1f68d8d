# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""ACPI devices of Nyx: in the VM, and as Linux shows them."""

import base64
import struct
import subprocess
import time

from .errors import GuestTimeout, NyxTestError

MODULES = ('ac', 'battery', 'button', 'evdev', 'fan')
DEVICES = (
    '-device', 'nyx-thermal-zone,id=zone0,temperature=300,passive=800,'
               'active0=700,active1=600,sampling-ms=300',
    '-device', 'nyx-battery,id=bat0,design-capacity=50000,charge=30000,'
               'cycles=7,model=Nyx-1,serial=0815',
    '-device', 'nyx-ac-adapter,id=ac0',
    '-device', 'nyx-lid,id=lid0',
    '-device', 'nyx-power-button,id=power0',
    '-device', 'nyx-sleep-button,id=sleep0')
SECONDS = 180

# struct input_event of 64-bit Linux: time, type, code, value
EVENT = struct.Struct('<qqHHi')
EV_KEY, EV_SW = 1, 5
KEY_POWER, KEY_SLEEP, SW_LID = 116, 142, 0


def set_acpi(vm, device, kind, **values):
    vm.monitor.command('nyx-acpi-set', device=device, type=kind, **values)


def set_zone(vm, **values):
    set_acpi(vm, 'zone0', 'thermal-zone', **values)


def query(vm, device):
    found = vm.monitor.command('query-nyx-acpi')['devices']
    return next(info for info in found if info['device'] == device)


def await_state(vm, condition, what, seconds=SECONDS):
    """Wait until condition(query-nyx-acpi) holds; what it then shows."""
    limit = time.monotonic() + seconds
    while True:
        state = vm.monitor.command('query-nyx-acpi')
        if condition(state):
            return state
        if time.monotonic() > limit:
            raise GuestTimeout(f'{what} did not come true within {seconds} s, '
                               f'but {state}')
        time.sleep(0.05)


def await_fans(vm, *percents):
    """Wait until the guest lets the fans of zone0 run like that."""
    await_state(vm, lambda state: next(
        info['fans'] for info in state['devices']
        if info['device'] == 'zone0') == list(percents), f'fans at {percents}')


def read(vm, path):
    return vm.agent.check(f'cat {path}')


def wait_file(vm, path, text):
    """Wait until a file of the guest has that text."""
    vm.agent.wait(f'[ "$(cat {path} 2>/dev/null)" = "{text}" ]', SECONDS)


def by_type(vm, folder, kind):
    """Folders in a class of sysfs whose file type says kind."""
    return vm.agent.check(
        f'for d in /sys/class/{folder}/*; do [ "$(cat $d/type)" = "{kind}" ] '
        '&& echo $d; done; true').split()


def input_device(vm, acpi_id):
    """/dev/input/eventN of the input device of an ACPI device."""
    return vm.agent.check(
        'for d in /sys/class/input/event*; do '
        f'case "$(cat $d/device/phys)" in {acpi_id}/*) '
        'echo /dev/input/${d##*/};; esac; done')


class Reader:
    """Reads an input device from now on."""

    def __init__(self, vm, device):
        self._vm = vm
        vm.agent.check('rm -f /run/input /run/input-open')
        vm.agent.check(
            f"(exec 3<{device} && : >/run/input-open && exec cat <&3 "
            '>/run/input) </dev/null >/dev/null 2>&1 & echo $! >/run/reader')
        vm.agent.wait('[ -e /run/input-open ]', SECONDS)

    def wait(self, count):
        """So many events, but for those that only end a report."""
        size = EVENT.size * 2 * count
        self._vm.agent.wait(f'[ $(wc -c </run/input) -ge {size} ]', SECONDS)
        self._vm.agent.check('kill $(cat /run/reader)')
        data = base64.b64decode(self._vm.agent.check('base64 /run/input'))
        events = [EVENT.unpack_from(data, at)[2:]
                  for at in range(0, len(data), EVENT.size)]
        return [event for event in events if event[0]]


def cpu_share(vm, index, seconds):
    """Part of the host's time in which the thread of a vCPU ran."""
    thread = next(cpu['thread-id'] for cpu in
                  vm.monitor.command('query-cpus-fast')
                  if cpu['cpu-index'] == index)

    def used_ns():
        with open(f'/proc/{thread}/schedstat', encoding='ascii') as file:
            return int(file.read().split()[0])

    began, used = time.monotonic_ns(), used_ns()
    time.sleep(seconds)
    return (used_ns() - used) / (time.monotonic_ns() - began)


def guest_table(vm, name, folder):
    """A table as the guest has it, in a file."""
    path = folder / f'{name}.dat'
    path.write_bytes(base64.b64decode(vm.agent.check(
        f'base64 /sys/firmware/acpi/tables/{name}')))
    return path


def iasl(*arguments, folder):
    try:
        done = subprocess.run(['iasl', *map(str, arguments)], cwd=folder,
                              capture_output=True, text=True, check=False)
    except FileNotFoundError as err:
        raise NyxTestError('there is no iasl; install acpica-tools') from err
    return done.returncode, done.stdout + done.stderr
