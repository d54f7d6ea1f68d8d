# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Arguments for the machine itself: processors, memory, firmware, boot."""

from ..key import properties
from ..loglevels import masks, patterns
from ..schema import BY_NAME
from ..values import cpus_text, size_text
from .option import option

# What libvirt gives its domains, too.
SANDBOX = 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,' \
          'resourcecontrol=deny'
RAM = 'pc.ram'                  # as QEMU itself names it
HUGE = {'2M': 2 << 20, '1G': 1 << 30}


def _needs_backend(spec):
    """Whether the machine has one; with NUMA each node has its own."""
    memory = spec['memory']
    return not spec['numa'] and _is_special(memory)


def _is_special(memory):
    return memory['hugepages'] or memory['shared'] or \
        memory['preallocate'] or memory['host-node'] is not None


def machine(spec, host):
    """-machine, -accel, -cpu and what else makes an empty machine."""
    values = spec['machine']
    words = properties(BY_NAME['machine'], values, 'machine')
    for name, value in (values['stage1-options'] or {}).items():
        words[f'stage1.{name}'] = value
    # With -nodefaults the machine has none of its own.
    words['hotplug-ports'] = values['hotplug-ports']
    if host.firmware.code_flash:
        words['pflash0'], words['pflash1'] = 'uefi-code', 'uefi-vars'
    if host.firmware.smm:
        words['smm'] = True
    if _needs_backend(spec):
        words['memory-backend'] = RAM
    model = spec['cpus']['model'] or \
        ('host' if host.accel == 'kvm' else 'max')
    return ['-name', option(None, {'guest': spec['name'],
                                   'debug-threads': True}),
            *(['-uuid', spec['uuid']] if spec['uuid'] else []),
            '-machine', option('nyx-pc', words), '-accel', host.accel,
            '-cpu', model, '-smp', _smp(spec['cpus']),
            '-rtc', f'base={spec["clock"]}']


def _smp(cpus):
    return option(str(cpus['count']), {
        'maxcpus': cpus['max'], 'sockets': cpus['sockets'],
        'cores': cpus['cores'], 'threads': cpus['threads']})


def memory(spec):
    """-m, and an object where the memory is to be of a certain kind."""
    values = spec['memory']
    words = ['-m', option(None, {
        'size': size_text(values['size']), 'slots': values['slots'],
        'maxmem': size_text(values['max']) if values['max'] else None})]
    if values['lock']:
        words += ['-overcommit', 'mem-lock=on']
    if _needs_backend(spec):
        words += _backend(values, RAM, values['size'], values['host-node'])
    return words + _nodes(spec)


def _nodes(spec):
    """-numa for each node, with its memory, and for their distances."""
    words = []
    for number, node in enumerate(spec['numa']):
        name = f'{RAM}.{node["id"]}'
        words += _backend(spec['memory'], name, node['memory'],
                          node['host-node'])
        text = option('node', {'nodeid': number, 'memdev': name})
        for part in cpus_text(node['cpus']).split(',') if node['cpus'] else ():
            text += f',cpus={part}'
        words += ['-numa', text]
    for number, node in enumerate(spec['numa']):
        for other, distance in enumerate(node['distances']):
            if other != number:
                words += ['-numa', option('dist', {
                    'src': number, 'dst': other, 'val': distance})]
    return words


def _backend(values, name, size, node):
    """-object of memory of the kind that the spec wants."""
    kind = 'memory-backend-memfd' if values['shared'] or values['hugepages'] \
        else 'memory-backend-ram'
    return ['-object', option(kind, {
        'id': name, 'size': size,
        'share': values['shared'] or None,
        'hugetlb': True if values['hugepages'] else None,
        'hugetlbsize': HUGE.get(values['hugepages']),
        'prealloc': values['preallocate'] or None,
        'host-nodes': node, 'policy': None if node is None else 'bind'})]


def firmware(spec, host):
    """-blockdev of flash, or -bios."""
    found = host.firmware
    words = []
    if found.code_flash:
        words += ['-blockdev', option(None, {
            'driver': 'raw', 'node-name': 'uefi-code', 'read-only': True,
            'file.driver': 'file', 'file.filename': found.code_flash}),
                  '-blockdev', option(None, {
            'driver': found.vars_format, 'node-name': 'uefi-vars',
            'file.driver': 'file', 'file.filename': found.vars})]
    elif spec['firmware']['code']:
        words += ['-bios', spec['firmware']['code']]
    if found.smm:
        words += ['-global', 'driver=cfi.pflash01,property=secure,value=on',
                  '-global', 'ICH9-LPC.disable_s3=1']
    return words


def boot(spec):
    """-kernel and its like, -boot."""
    values = spec['boot']
    words = []
    for name in ('kernel', 'initrd', 'append'):
        if values[name]:
            words += [f'-{name}', values[name]]
    if values['menu']:
        words += ['-boot', 'menu=on']
    return words


def surroundings(spec):
    """How QEMU itself behaves."""
    words = ['-nodefaults', '-no-user-config', '-vga', 'none',
             '-msg', 'timestamp=off']
    if spec['qemu']['sandbox']:
        words += ['-sandbox', SANDBOX]
    for pattern in patterns(spec['logging']):
        words += ['-trace', f'enable={pattern}']
    items = masks(spec['logging'])
    if items:
        words += ['-d', ','.join(items)]
    return words


def beginning(spec):
    """What the VM goes on from."""
    if spec['migration']['listen']:
        mapped = ['-global', 'migration.mapped-ram=on'] \
            if spec['migration']['mapped-ram'] else []
        return [*mapped, '-incoming', spec['migration']['listen']]
    if spec['snapshot']['load']:
        return ['-loadvm', spec['snapshot']['load']]
    return []
