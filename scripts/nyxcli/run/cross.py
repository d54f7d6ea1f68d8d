# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What a key's own type cannot tell: ids, references, what excludes what.

Defaults that depend on other keys are filled in here, too.
"""

import hashlib

from . import numa
from .hint import did_you_mean
from .schema import BY_NAME
from .values import Ref, size_text

# Ids that the machine and this command give to objects of their own.
RESERVED = ('console', 'hmp', 'metrics', 'events', 'tpm', 'rng', 'watchdog',
            'video', 'usb', 'tablet', 'keyboard')
RESERVED_STARTS = ('nyx-port', 'port-', 'count-', 'qmp', 'scsi-ctl')
AHCI_PORTS = 6
MAX_SERIALS = 3
SLOT_FUNCTIONS = 8


def check(spec, problems):
    """Report to problems what does not fit together."""
    _name_all(spec)
    ids = _check_ids(spec, problems)
    _check_refs(spec, ids, problems)
    for rule in (_cpus, _memory, numa.check, _firmware, _boot, _disks, _nics,
                 _serials, _domains, _windows, _passthrough, _vhost_user,
                 _accel, _display, _snapshot):
        rule(spec, problems)


def _name_all(spec):
    """Entries without an id are numbered by their kind."""
    taken = {entry['id'] for _, _, entry in spec.entries()}
    numbers = {}
    for section, _, entry in spec.entries():
        while entry['id'] is None:
            stem = {'passthrough': 'host'}.get(section.name, section.name)
            number = numbers.get(stem, 0)
            numbers[stem] = number + 1
            if f'{stem}{number}' not in taken:
                entry['id'] = f'{stem}{number}'


def _check_ids(spec, problems):
    """All ids, by section; each may be there once."""
    seen, ids = {}, {}
    for section, number, entry in spec.entries():
        where = (section.name, number, 'id')
        name = entry['id']
        if name in seen:
            problems.add(where, f'the id "{name}" is taken by another entry, '
                         f'a [[{seen[name]}]]')
        elif name in RESERVED or name.startswith(RESERVED_STARTS):
            problems.add(where, f'the id "{name}" is one that Nyx uses for '
                         'itself; choose another')
        seen[name] = section.name
        ids.setdefault(section.name, []).append(name)
    return ids


def _check_refs(spec, ids, problems):
    tables = [(section, (section.name, number), entry)
              for section, number, entry in spec.entries()]
    tables.append((BY_NAME['watchdog'], ('watchdog',), spec['watchdog']))
    for section, where, entry in tables:
        for key in section.keys:
            value = entry[key.name]
            if isinstance(key.type, Ref) and value is not None:
                known = ids.get(key.type.section, [])
                if value not in known:
                    problems.add((*where, key.name), f'there is no '
                                 f'[[{key.type.section}]] with id = "{value}"'
                                 f'{did_you_mean(value, known)}')


def _cpus(spec, problems):
    cpus = spec['cpus']
    most = cpus['max'] or cpus['count']
    if most < cpus['count']:
        problems.add(('cpus', 'max'), f'max is {most}, less than count '
                     f'({cpus["count"]})')
    sizes = [cpus[name] for name in ('sockets', 'cores', 'threads')]
    if any(sizes):
        product = 1
        for size in sizes:
            product *= size or 1
        if all(sizes) and product != most or most % product:
            problems.add(('cpus', 'sockets'), 'sockets, cores and threads '
                         f'make {product} processors, but there are {most}')
    if cpus['pin'] and len(cpus['pin']) > most:
        problems.add(('cpus', 'pin'), f'pin is for {len(cpus["pin"])} '
                     f'processors, but there are {most}')


def _memory(spec, problems):
    memory = spec['memory']
    page = {'2M': 2 << 20, '1G': 1 << 30}.get(memory['hugepages'], 1)
    if memory['size'] % page:
        problems.add(('memory', 'size'), f'size is {size_text(memory["size"])}'
                     f', which pages of {memory["hugepages"]} do not fill')
    needs = spec['vhost-user'] or spec['vfio-user']
    if needs and memory['shared'] is False:
        problems.add(('memory', 'shared'), 'shared is false, but '
                     f'"{needs[0]["id"]}" is served by another process; leave '
                     'the key out')
    if memory['shared'] is None:
        memory['shared'] = bool(needs)
    for name, other in (('max', 'slots'), ('slots', 'max')):
        if memory[name] and not memory[other]:
            problems.add(('memory', name), f'{name} needs {other}')
    if memory['max'] and memory['max'] <= memory['size']:
        problems.add(('memory', 'max'), f'max is {size_text(memory["max"])}, '
                     f'no more than size ({size_text(memory["size"])})')


def _firmware(spec, problems):
    firmware = spec['firmware']
    if firmware['code'] and firmware['type'] == 'uefi' and \
            not firmware['template'] and not firmware['vars']:
        problems.add(('firmware', 'code'), 'code needs a template that '
                     'belongs to it (its OVMF_VARS file)')


def _boot(spec, problems):
    boot = spec['boot']
    for name in ('initrd', 'append'):
        if boot[name] and not boot['kernel']:
            problems.add(('boot', name), f'{name} needs a kernel')
    devices = [entry['id'] for section, _, entry in spec.entries()
               if section.name not in ('domain', 'iothread', 'serial', 'numa')]
    for number, name in enumerate(boot['order'] or ()):
        if name not in devices:
            problems.add(('boot', 'order', number), 'order has '
                         f'"{name}", but no device has this id'
                         f'{did_you_mean(name, devices)}')


def _disks(spec, problems):
    ahci = 0
    for number, disk in enumerate(spec['disk']):
        where = ('disk', number)
        if disk['file'] is None and not disk['cdrom']:
            problems.add(where, f'the disk "{disk["id"]}" has no file')
        if disk['create'] and disk['cdrom']:
            problems.add((*where, 'create'), 'create makes no CDs')
        if disk['aio'] == 'native' and disk['cache'] != 'none':
            problems.add((*where, 'aio'), 'aio = "native" needs cache = '
                         '"none"')
        ahci += disk['bus'] == 'ahci'
        if ahci > AHCI_PORTS:
            problems.add(where, f'the machine has {AHCI_PORTS} SATA ports; '
                         'choose another bus for further disks')
        if disk['format'] is None and disk['file']:
            disk['format'] = 'qcow2' if disk['file'].endswith('.qcow2') \
                else 'raw'
        if disk['read-only'] is None:
            disk['read-only'] = disk['cdrom']
        if disk['serial'] is None and not disk['cdrom']:
            disk['serial'] = disk['id'][:20]


def made_up_mac(spec, entry):
    """The same for the same names, in QEMU's own range of addresses."""
    digest = hashlib.sha256(f'{spec["name"]}/{entry["id"]}'.encode()).digest()
    return '52:54:00:' + ':'.join(f'{byte:02x}' for byte in digest[:3])


def _nics(spec, problems):
    for number, nic in enumerate(spec['nic']):
        where = ('nic', number)
        if nic['type'] == 'tap' and not nic['interface']:
            problems.add(where, f'"{nic["id"]}" has type = "tap", but no '
                         'interface')
        if nic['type'] == 'bridge' and not nic['bridge']:
            problems.add(where, f'"{nic["id"]}" has type = "bridge", but no '
                         'bridge')
        if nic['vhost'] and nic['model'] != 'virtio':
            problems.add((*where, 'vhost'), 'vhost serves only model = '
                         '"virtio"')
        if nic['queues'] > 1 and nic['model'] != 'virtio':
            problems.add((*where, 'queues'), 'only model = "virtio" has more '
                         'than one pair of queues')
        if nic['count'] and nic['vhost']:
            problems.add((*where, 'count'), 'what vhost serves cannot be '
                         'counted')
        if nic['count'] is None:
            nic['count'] = not nic['vhost']
    for section, _, entry in spec.entries():
        if 'mac' in section.by_name and entry['mac'] is None:
            entry['mac'] = made_up_mac(spec, entry)


def _serials(spec, problems):
    if len(spec['serial']) > MAX_SERIALS:
        problems.add(('serial', MAX_SERIALS), 'a PC has four serial ports, '
                     'the first of which is the console')
    for name, entries in (('console', [spec['console']]),
                          ('serial', spec['serial'])):
        for number, entry in enumerate(entries):
            if entry['type'] == 'file' and not entry['path']:
                where = (name,) if name == 'console' else (name, number)
                problems.add(where, f'a {name} with type = "file" needs a '
                             'path')


def _domains(spec, problems):
    """A strict domain takes one device only."""
    users = {}
    for section, number, entry in spec.entries():
        if entry.get('domain'):
            users.setdefault(entry['domain'], []).append(
                (section.name, number, entry))
    for domain in spec['domain']:
        if domain['isolation'] != 'strict':
            continue
        devices = {_device_of(entry): (name, number)
                   for name, number, entry in users.get(domain['id'], ())}
        if len(devices) > 1:
            names = list(devices)
            problems.add((*devices[names[1]], 'domain'), 'the domain '
                         f'"{domain["id"]}" is strict, and takes one device, '
                         f'which is "{names[0]}"; give "{names[1]}" one of '
                         'its own, or make the domain "shared"')


def _device_of(entry):
    if entry.get('bus') == 'scsi':
        return f'the SCSI controller of {entry["iothread"] or "all"}'
    return entry['id']


def _windows(spec, problems):
    for number, domain in enumerate(spec['domain']):
        for index, window in enumerate(domain['map']):
            where = ('domain', number, 'map', index)
            if window['gpa'] is None:
                window['gpa'] = window['iova']
            if window['iova'] + window['size'] > 1 << 48:
                problems.add(where, 'a window ends beyond 48 bits, which is '
                             'all that devices may use')
        if domain['map'] and domain['isolation'] == 'unmanaged':
            problems.add(('domain', number, 'map'), 'an unmanaged domain has '
                         'no windows; it allows everything')


def _passthrough(spec, problems):
    by_id = {entry['id']: entry for entry in spec['passthrough']}
    functions = {}
    for number, entry in enumerate(spec['passthrough']):
        if len(entry['host'].split(':')) == 2:
            entry['host'] = f'0000:{entry["host"]}'
        first = by_id.get(entry['beside'])
        if not first:
            continue
        where = ('passthrough', number, 'beside')
        if first is entry or first['beside']:
            problems.add(where, f'"{first["id"]}" is no first function; name '
                         'an entry that has no beside itself')
        functions[first['id']] = functions.get(first['id'], 1) + 1
        if functions[first['id']] > SLOT_FUNCTIONS:
            problems.add(where, f'"{first["id"]}" has more than '
                         f'{SLOT_FUNCTIONS} functions')


def _vhost_user(spec, problems):
    for number, entry in enumerate(spec['vhost-user']):
        if entry['kind'] == 'fs' and not entry['tag']:
            problems.add(('vhost-user', number), f'"{entry["id"]}" has kind = '
                         '"fs", but no tag to mount it by')


def _accel(spec, problems):
    model = spec['cpus']['model'] or ''
    if model.split(',')[0] == 'host' and spec['machine']['accel'] == 'tcg':
        problems.add(('cpus', 'model'), 'model = "host" needs KVM; leave it '
                     'out, or set accel = "kvm" in [machine]')
    if spec['machine']['stage1-options'] and \
            spec['machine']['stage1'] == 'none':
        problems.add(('machine', 'stage1-options'), 'stage1-options needs a '
                     'stage1')


def _display(spec, problems):
    if spec['display']['type'] == 'spice-app' and spec['qemu']['sandbox']:
        problems.add(('display', 'type'), 'the sandbox keeps "spice-app" from '
                     'starting its viewer; set sandbox = false in [qemu]')


def _snapshot(spec, problems):
    if not spec['snapshot']['load']:
        return
    if spec['migration']['listen']:
        problems.add(('snapshot', 'load'), 'a VM cannot both load a snapshot '
                     'and wait for a migration')
    for number, disk in enumerate(spec['disk']):
        if disk['format'] == 'raw' and not disk['read-only']:
            problems.add(('disk', number), f'"{disk["id"]}" is raw, which has '
                         'no snapshots; make it qcow2 or read-only, or leave '
                         'out snapshot.load')
