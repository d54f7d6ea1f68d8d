# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Domains, and the policy that they share with the machine."""

from ..key import Key, Section
from ..values import Bool, Choice, Ident, Records, Size, Whole

UINT32 = (1 << 32) - 1
PAGE = 4096


VM_ACTIONS = 'reset-vm', 'pause-vm', 'restore-snapshot', 'shutdown'
# What may happen is in the manual's page on errors.
ERRORS = {
    'on-guest-panic': (('ignore', *VM_ACTIONS), "When the guest's kernel "
                       'panics, which a device "pvpanic-pci" tells.'),
    'on-triple-fault': (('reset-vcpu', *VM_ACTIONS), 'When a processor shuts '
                        'down.'),
    'on-machine-check': (('ignore', 'reset-vcpu', *VM_ACTIONS), 'When a '
                         'processor gets a machine check.'),
    'on-vcpu-stuck': (('ignore', 'reset-vcpu', *VM_ACTIONS), 'When a '
                      'processor makes no progress.'),
    'on-device-error': (('ignore', 'reset-device', 'isolate-device',
                         *VM_ACTIONS), 'When the storage of a device fails.'),
    'on-watchdog': (('ignore', *VM_ACTIONS), 'When a watchdog of the guest '
                    'expires.'),
}


def errors():
    """Keys of the machine for errors of the guest and its hardware."""
    return tuple(Key(name, Choice(actions), text,
                     default_text='what QEMU does', option=f'machine:{name}')
                 for name, (actions, text) in ERRORS.items())


def policy(target):
    """The keys of a policy, for properties of the machine or a domain."""
    def default(text):
        return text if target == 'machine' else "the machine's"
    return (
        Key('max-faults', Whole(0, 65535), 'Faults that a device may cause '
            'within the window.', option=f'{target}:max-faults',
            default_text=default('10')),
        Key('fault-window-ms', Whole(0, UINT32), 'The window, in '
            'milliseconds; 0 counts for ever.',
            option=f'{target}:fault-window-ms',
            default_text=default('60000')),
        Key('on-fault-limit', Choice(('quarantine', 'report', 'reset-device',
                                      'pause-vm', 'reset-vm', 'shutdown',
                                      'unplug', 'restore-snapshot')),
            'What happens past the limit.', option=f'{target}:on-fault-limit',
            default_text=default('"quarantine"')),
        Key('max-recoveries', Whole(0, 255), 'Recoveries of a device within '
            'an hour, after which it fails.',
            option=f'{target}:max-recoveries', default_text=default('5')),
        Key('on-recovery-limit', Choice(('fail', 'unplug', 'pause-vm',
                                         'reset-vm', 'shutdown',
                                         'restore-snapshot')),
            'What happens then.', option=f'{target}:on-recovery-limit',
            default_text=default('"fail"')),
        Key('scope', Choice(('device', 'domain')), 'Whom a quarantine takes '
            'in.', option=f'{target}:scope', default_text=default('"device"')),
        Key('count-stage1', Bool(), "Whether what the guest's own IOMMU "
            'refuses counts.', option=f'{target}:count-stage1',
            default_text=default('true')),
        Key('recovery', Choice(('manual', 'auto')), 'Who begins a recovery: '
            'the operator, or the guest, too.', option=f'{target}:recovery',
            default_text=default('"manual"')),
    )


WINDOW = (
    Key('iova', Size(PAGE, 0), 'What the device sees.', required=True),
    Key('gpa', Size(PAGE, 0), 'Guest physical address; as iova if left out.'),
    Key('size', Size(PAGE), 'Bytes.', required=True),
    Key('access', Choice(('r', 'w', 'rw')), 'Read, write or both.',
        default='rw'),
)

DOMAIN = Section('domain', 'An isolation domain, which devices join with '
                 '``domain = "ID"``.', many=True, keys=(
    Key('id', Ident(), 'Its name.', required=True),
    Key('isolation', Choice(('strict', 'shared', 'unmanaged')),
        'One device; any number with one set of mappings; any number, not '
        'confined.', default='strict', option='domain:isolation'),
    Key('default-map', Choice(('ram', 'none')), 'What is allowed at first: '
        'all guest RAM, or nothing.', default='ram',
        option='domain:default-map'),
    Key('peer-to-peer', Bool(), 'Whether the memory of other PCI devices may '
        'be accessed.', default=False, option='domain:peer-to-peer'),
    Key('large-pages', Bool(), 'Leaves of 2 MiB and 1 GiB in the table.',
        default=True, option='domain:large-pages'),
    Key('irq-coalescing', Whole(0, 10000), 'Microseconds in which equal '
        'interrupts of a device become one; 0: off.', default=0,
        option='domain:irq-coalescing'),
    Key('batch-invalidation', Bool(), 'What the guest\'s IOMMU takes back is '
        'taken out of the tables together.', default=False,
        option='domain:batch-invalidation'),
    Key('contained', Bool(), 'No process behind a device gets a descriptor of '
        'guest RAM.', default=False, option='domain:contained'),
    Key('map', Records(WINDOW), 'Windows that are mapped before the guest '
        'runs: iova, size, and if wanted gpa and access ("r", "w", "rw").',
        default=()),
    *policy('domain'),
))
