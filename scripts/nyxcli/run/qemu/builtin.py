# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Arguments for TPM, display, serial ports, watchdog, random numbers."""

from .option import option

VIDEO = {'virtio': 'virtio-vga', 'std': 'VGA', 'bochs': 'bochs-display'}


def tpm(spec, host):
    """-tpmdev, which talks to swtpm."""
    if not spec['tpm']['enabled']:
        return []
    return ['-chardev', option('socket', {'id': 'tpm-chr',
                                          'path': host.run / 'tpm.sock'}),
            '-tpmdev', 'emulator,id=tpm,chardev=tpm-chr',
            '-device', f'tpm-{spec["tpm"]["model"]},tpmdev=tpm']


def usb(spec):
    """The controller, where there is something to plug into it."""
    if spec['display']['type'] == 'none' and \
            all(disk['bus'] != 'usb' for disk in spec['disk']):
        return []
    return ['-device', 'qemu-xhci,id=usb,bus=pcie.0']


def display(spec):
    """-display or -vnc, with a card, a keyboard and a tablet."""
    values = spec['display']
    if values['type'] == 'none':
        return ['-display', 'none']
    way = ['-vnc', values['listen'].replace(',', ',,')] \
        if values['type'] == 'vnc' else ['-display', values['type']]
    return [*way, '-device', option(VIDEO[values['video']], {
                'id': 'video', 'bus': 'pcie.0'}),
            '-device', 'usb-tablet,id=tablet,bus=usb.0',
            '-device', 'usb-kbd,id=keyboard,bus=usb.0']


def console(spec, host):
    """-serial of the first port, and a human monitor on a terminal."""
    values = spec['console']
    name = 'console-chr'
    if values['type'] == 'none':
        return ['-serial', 'none'] if spec['serial'] else []
    if values['type'] == 'stdio':
        return ['-chardev', f'stdio,id={name},mux=on,signal=off',
                '-serial', f'chardev:{name}',
                '-object', f'monitor-hmp,id=hmp,chardev={name}']
    return ['-chardev', _end(values, name, host.run / 'console.sock'),
            '-serial', f'chardev:{name}']


def _end(values, name, socket):
    """A socket or file that a serial port leads to."""
    if values['type'] == 'file':
        return option('file', {'id': name, 'path': values['path'],
                               'append': True})
    return option('socket', {'id': name, 'path': values['path'] or socket,
                             'server': True, 'wait': False})


def serials(spec, host):
    """-serial of the further ports."""
    words = []
    for values in spec['serial']:
        name = f'{values["id"]}-chr'
        words += ['-chardev', _end(values, name,
                                   host.run / f'{values["id"]}.sock'),
                  '-serial', f'chardev:{name}']
    return words


def watchdog(spec, place):
    """The device, if it is none of the chipset's, and -action."""
    values = spec['watchdog']
    if values['model'] == 'none':
        return []
    words = ['-action', f'watchdog={values["action"]}']
    if values['model'] == 'itco':
        return [*words, '-global', 'ICH9-LPC.noreboot=off']
    entry = {'id': 'watchdog', 'port': False, 'domain': values['domain']}
    return [*words, '-device', option('i6300esb', {
        'id': 'watchdog', **place.pci(entry)})]


def rng(spec, place):
    """A virtio device for random numbers."""
    if not spec['rng']:
        return []
    entry = {'id': 'rng', 'port': False, 'domain': None}
    return ['-object', 'rng-random,id=rng-source,filename=/dev/urandom',
            '-device', option('virtio-rng-pci', {
                'id': 'rng', 'rng': 'rng-source', **place.pci(entry)})]


def monitors(host):
    """Sockets for the other commands of nyx, and the process id."""
    words = ['-pidfile', str(host.run / 'qemu.pid')]
    for name in ('qmp', 'metrics', 'events'):
        words += ['-chardev', option('socket', {
            'id': f'{name}-chr', 'path': host.run / f'{name}.sock',
            'server': True, 'wait': False}),
                  '-object', f'monitor-qmp,id={name},chardev={name}-chr']
    return words
