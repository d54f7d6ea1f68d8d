# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What stands before the devices: memory, processors, firmware, clock."""

from ..values import cpus_text
from .element import child

MACHINE = 'pc-q35-nyx-11.1'     # libvirt 9.0 does not get along with the alias
KIB = 1024


def memory(domain, spec):
    """<memory> and how it is backed."""
    values = spec['memory']
    if values['max']:
        child(domain, 'maxMemory', values['max'] // KIB, unit='KiB',
              slots=values['slots'])
    child(domain, 'memory', values['size'] // KIB, unit='KiB')
    if not any(values[name] for name in ('hugepages', 'shared', 'preallocate',
                                         'lock')):
        return
    backing = child(domain, 'memoryBacking')
    if values['hugepages']:
        child(child(backing, 'hugepages'), 'page',
              size=values['hugepages'][0], unit=values['hugepages'][1] + 'iB')
    if values['lock']:
        child(backing, 'locked')
    if values['shared']:
        if not values['hugepages']:
            child(backing, 'source', type_='memfd')
        child(backing, 'access', mode='shared')
    if values['preallocate']:
        child(backing, 'allocation', mode='immediate')


def processors(domain, spec):
    """<vcpu>, threads of disks, and where they run."""
    cpus, threads = spec['cpus'], spec['iothread']
    most = cpus['max'] or cpus['count']
    child(domain, 'vcpu', most, placement='static',
          current=cpus['count'] if most != cpus['count'] else None)
    if threads:
        child(domain, 'iothreads', len(threads))
    tune = child(domain, 'cputune')
    for number in range(most if cpus['pin'] else 0):
        place = cpus['pin'][min(number, len(cpus['pin']) - 1)]
        child(tune, 'vcpupin', vcpu=number, cpuset=cpus_text(place))
    if cpus['emulator-pin']:
        child(tune, 'emulatorpin', cpuset=cpus_text(cpus['emulator-pin']))
    for number, thread in enumerate(threads, 1):
        if thread['pin']:
            child(tune, 'iothreadpin', iothread=number,
                  cpuset=cpus_text(thread['pin']))
    if not len(tune):
        domain.remove(tune)
    _tune_memory(domain, spec)


def _tune_memory(domain, spec):
    """Nodes of the host that memory comes from."""
    if spec['memory']['host-node'] is not None:
        child(child(domain, 'numatune'), 'memory', mode='strict',
              nodeset=spec['memory']['host-node'])
    bound = [(number, node['host-node']) for number, node
             in enumerate(spec['numa']) if node['host-node'] is not None]
    if bound:
        element = child(domain, 'numatune')
        for number, node in bound:
            child(element, 'memnode', cellid=number, mode='strict',
                  nodeset=node)


def system(domain, spec):
    """<os>: machine, firmware, kernel."""
    firmware, boot = spec['firmware'], spec['boot']
    uefi = firmware['type'] == 'uefi'
    chosen = uefi and not firmware['code']
    element = child(domain, 'os', firmware='efi' if chosen else None)
    child(element, 'type', 'hvm', arch='x86_64', machine=MACHINE)
    if chosen:
        features = child(element, 'firmware')
        for name in ('secure-boot', 'enrolled-keys'):
            child(features, 'feature', enabled=firmware['secure-boot'],
                  name=name)
    if firmware['code']:
        child(element, 'loader', firmware['code'], readonly=True if uefi
              else None, secure=True if firmware['secure-boot'] else None,
              type_='pflash' if uefi else 'rom')
    if uefi and firmware['vars']:
        child(element, 'nvram', firmware['vars'],
              template=firmware['template'])
    for name, tag in (('kernel', 'kernel'), ('initrd', 'initrd'),
                      ('append', 'cmdline')):
        if boot[name]:
            child(element, tag, boot[name])
    if boot['menu']:
        child(element, 'bootmenu', enable=True)


def features(domain, spec):
    """ACPI, without which libvirt 9.0 starts no machine of this kind."""
    element = child(domain, 'features')
    child(element, 'acpi')
    child(element, 'apic')
    if spec['firmware']['secure-boot']:
        child(element, 'smm', state='on')


def cpu(domain, spec, accel):
    """<cpu>: model and topology."""
    cpus = spec['cpus']
    model, *properties = (cpus['model'] or '').split(',')
    modes = {'': 'host-passthrough' if accel == 'kvm' else 'maximum',
             'host': 'host-passthrough', 'max': 'maximum'}
    element = child(domain, 'cpu', mode=modes.get(model, 'custom'),
                    match=None if model in modes else 'exact',
                    check='none')
    if model not in modes:
        child(element, 'model', model, fallback='forbid')
    if any(cpus[name] for name in ('sockets', 'cores', 'threads')):
        child(element, 'topology', **topology(cpus))
    _numa(element, spec)
    for text in properties:
        name, _, value = text.partition('=')
        off = value == 'off' or name.startswith('-')
        child(element, 'feature', policy='disable' if off else 'require',
              name=name.lstrip('+-'))


def _numa(element, spec):
    """<numa>; libvirt wants a node also where memory can be plugged in."""
    nodes = spec['numa']
    if nodes:
        cells = child(element, 'numa')
        for number, node in enumerate(nodes):
            cell = child(cells, 'cell', id=number,
                         cpus=cpus_text(node['cpus']) or None,
                         memory=node['memory'] // KIB, unit='KiB')
            distances = child(cell, 'distances')
            for other, value in enumerate(node['distances']):
                child(distances, 'sibling', id=other, value=value)
    elif spec['memory']['max']:
        most = spec['cpus']['max'] or spec['cpus']['count']
        child(child(element, 'numa'), 'cell', id=0,
              cpus=cpus_text(range(most)), unit='KiB',
              memory=spec['memory']['size'] // KIB)


def topology(cpus):
    """All of it: what the spec leaves out follows from the rest."""
    most = cpus['max'] or cpus['count']
    known = {name: cpus[name] for name in ('sockets', 'cores', 'threads')}
    for name in ('sockets', 'cores', 'threads'):
        if known[name] is None:
            others = 1
            for size in known.values():
                others *= size or 1
            known[name] = most // others
    return {'sockets': known['sockets'], 'dies': 1, 'cores': known['cores'],
            'threads': known['threads']}
