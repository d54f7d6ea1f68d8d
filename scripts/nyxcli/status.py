# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx status: how VMs are."""

from .errors import NyxError
from .options import command, vm_argument
from .output import print_json, show, table
from .rundir import running
from .units import bytes_text
from .vm import connect


def look(vm):
    """What QMP says of a VM as a whole."""
    memory = vm.execute('query-memory-size-summary')
    return {
        'vm': vm.name,
        'status': vm.execute('query-status')['status'],
        'cpus': len(vm.execute('query-cpus-fast')),
        'memory-bytes': memory['base-memory'] + memory.get('plugged-memory',
                                                           0),
        'kvm': vm.execute('query-kvm')['enabled'],
        'iommu': vm.execute('query-nyx-iommu'),
        'migration': vm.execute('query-migrate').get('status', 'none'),
    }


def _row(name, about):
    if about is None:
        return name, 'not answering', *'-------'
    iommu = about['iommu']
    return (name, about['status'], about['cpus'],
            bytes_text(about['memory-bytes']), 'KVM' if about['kvm'] else
            'TCG', iommu['devices'], iommu['quarantined'],
            iommu['fault-events'], about['migration'])


def _show_all(as_json):
    seen = {}
    for name in running():
        try:
            with connect(name) as vm:
                seen[name] = look(vm)
        except NyxError:
            seen[name] = None       # the table says so; the rest still counts
    if as_json:
        print_json([about or {'vm': name, 'status': 'not answering'}
                    for name, about in seen.items()])
        return
    if not seen:
        print('No VM is running.')
        return
    show(('VM', 'STATUS', 'CPUS', 'MEMORY', 'BY', 'DEVICES', 'CUT OFF',
          'FAULTS', 'MIGRATION'),
         [_row(name, about) for name, about in seen.items()])


def _iotlb_text(iotlb):
    looked_up = iotlb['hits'] + iotlb['misses']
    rate = f'{100 * iotlb["hits"] / looked_up:.1f} % of {looked_up}' \
        if looked_up else 'not used'
    return f'{rate}; {iotlb["invalidations"]} invalidations'


def _show_one(about):
    iommu = about['iommu']
    interrupts = iommu['interrupts']
    rows = [('VM', about['vm']), ('status', about['status']),
            ('CPUs', f'{about["cpus"]}, '
             f'{"KVM" if about["kvm"] else "TCG"}'),
            ('memory', bytes_text(about['memory-bytes'])),
            ('migration', about['migration'])]
    if iommu['enabled']:
        rows += [('stage 1', iommu['stage1']), ('domains', iommu['domains']),
                 ('devices', iommu['devices']),
                 ('cut off', iommu['quarantined']),
                 ('faults', iommu['fault-events']),
                 ('interrupts', f'{interrupts["delivered"]} delivered, '
                  f'{interrupts["refused"]} refused'),
                 ('IOTLB hits', _iotlb_text(iommu['iotlb']))]
    else:
        rows.append(('Nyx IOMMU', 'none; the machine is not nyx-pc'))
    print(table(('', ''), rows).lstrip())


def _run(options):
    if options.vm is None:
        _show_all(options.json)
        return
    with connect(options.vm) as vm:
        about = look(vm)
    if options.json:
        print_json(about)
    else:
        _show_one(about)


def add(commands):
    """Add the subcommand."""
    vm_argument(command(commands, 'status', _run, 'show how VMs are',
                        'Without a name, all that run.'))
