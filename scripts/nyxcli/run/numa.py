# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""NUMA nodes of the guest: what they must be together, and what is left out.
"""

from .values import cpus_text, size_text

LOCAL, REMOTE = 10, 20          # distances, as ACPI has them
MIB = 1 << 20


def check(spec, problems):
    """Fill in what is left out, and report what does not add up."""
    nodes = spec['numa']
    if not nodes:
        return
    if spec['memory']['host-node'] is not None:
        problems.add(('memory', 'host-node'), 'host-node is for guests of one '
                     'node; say it in each [[numa]]')
    _memory(nodes, spec['memory']['size'], problems)
    most = spec['cpus']['max'] or spec['cpus']['count']
    if _cpus(nodes, most, problems):
        _sockets(nodes, spec['cpus'], most, problems)
    _distances(nodes, problems)


def _shares(whole, number):
    """Parts of a whole number, which differ by one at most."""
    return [whole * (index + 1) // number - whole * index // number
            for index in range(number)]


def _memory(nodes, size, problems):
    if not any(node['memory'] for node in nodes):
        for node, share in zip(nodes, _shares(size // MIB, len(nodes))):
            node['memory'] = share * MIB
        nodes[-1]['memory'] += size % MIB
    for number, node in enumerate(nodes):
        if not node['memory']:
            problems.add(('numa', number), f'"{node["id"]}" has no memory, '
                         'but others have; say how much')
            node['memory'] = 0
    total = sum(node['memory'] for node in nodes)
    if total != size:
        problems.add(('numa', 0, 'memory'), 'the nodes have '
                     f'{size_text(total)} together, but the memory is '
                     f'{size_text(size)}')


def _cpus(nodes, most, problems):
    """Whether each processor is in one node."""
    if not any(node['cpus'] for node in nodes):
        first = 0
        for node, share in zip(nodes, _shares(most, len(nodes))):
            node['cpus'] = list(range(first, first + share))
            first += share
    homes, well = {}, True
    for number, node in enumerate(nodes):
        for cpu in node['cpus'] or ():
            where = ('numa', number, 'cpus')
            well = well and cpu < most and cpu not in homes
            if cpu >= most:
                problems.add(where, f'there is no processor {cpu}; the last '
                             f'one is {most - 1}')
            elif cpu in homes:
                problems.add(where, f'processor {cpu} is in "{homes[cpu]}" '
                             'already')
            homes[cpu] = node['id']
    left = sorted(set(range(most)) - set(homes))
    if left:
        problems.add(('numa', 0), f'no node has the processors '
                     f'{cpus_text(left)}')
    return well and not left


def _sockets(nodes, cpus, most, problems):
    """Guests do not expect a socket in several nodes."""
    if not any(cpus[name] for name in ('sockets', 'cores', 'threads')) and \
            most % len(nodes) == 0:
        cpus['sockets'] = len(nodes)
    # What is left out, QEMU makes of cores first.
    size = most // cpus['sockets'] if cpus['sockets'] else \
        (cpus['cores'] or most) * (cpus['threads'] or 1)
    for first in range(0, most, max(size, 1)):
        socket = range(first, min(first + size, most))
        homes = [number for number, node in enumerate(nodes)
                 if set(socket) & set(node['cpus'] or ())]
        if len(homes) > 1:
            problems.add(('numa', homes[1]), 'the processors '
                         f'{cpus_text(socket)} are one socket, but in several '
                         'nodes; keep them together, or set sockets in '
                         '[cpus]')
            return


def _distances(nodes, problems):
    for number, node in enumerate(nodes):
        given = node['distances']
        where = ('numa', number, 'distances')
        if given is None:
            node['distances'] = [LOCAL if other == number else REMOTE
                                 for other in range(len(nodes))]
        elif len(given) != len(nodes):
            problems.add(where, f'{len(given)} distances are given, but there '
                         f'are {len(nodes)} nodes')
        elif any((value == LOCAL) != (other == number)
                 for other, value in enumerate(given)):
            problems.add(where, f'a node is {LOCAL} from itself, and further '
                         'from all others')
