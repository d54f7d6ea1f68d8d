# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx domains: the isolation domains of a VM."""

from .background import add_all, domains_to_show
from .errors import NyxError
from .options import command, vm_argument
from .output import print_json, show
from .units import bytes_text
from .vm import connect

TITLES = ('DOMAIN', 'ISOLATION', 'MADE BY', 'MAPPED', 'RANGES', 'TABLE',
          'PAST LIMIT', 'DEVICES')


def find(domains, name):
    """The domain of this id among what query-nyx-domains returned."""
    for domain in domains:
        if domain['id'] == name:
            return domain
    mine = [domain['id'] for domain in domains if not domain['automatic']]
    raise NyxError(f'there is no domain "{name}"; '
                   + (f'there are {", ".join(mine)}.' if mine else
                      'create one with -object nyx-domain,id=ID.'))


def row(domain):
    """Cells for TITLES."""
    policy = domain['policy']
    return (domain['id'], domain['isolation'],
            'Nyx' if domain['automatic'] else 'user',
            bytes_text(domain['mapped-bytes']), domain['mappings'],
            bytes_text(domain['table-bytes']),
            f'{policy["max-faults"]}: {policy["on-fault-limit"]}',
            ' '.join(domain['devices']) or '-')


def show_one(vm, name, as_json):
    """How a domain is after a command."""
    domain = find(vm.execute('query-nyx-domains'), name)
    if as_json:
        print_json(domain)
    else:
        show(TITLES, [row(domain)])


def _run(options):
    with connect(options.vm) as vm:
        domains = vm.execute('query-nyx-domains')
        devices = vm.execute('query-nyx-devices')
    if options.json:
        print_json(domains)
    elif not domains:
        print('There is no domain: the machine has no Nyx IOMMU.')
    else:
        shown = domains_to_show(domains, devices, options.all)
        if shown:
            show(TITLES, [row(domain) for domain in shown])
        if len(shown) < len(domains):
            print(f'And {len(domains) - len(shown)} of the chipset and ports '
                  '(--all).')


def add(commands):
    """Add the subcommand."""
    parser = command(
        commands, 'domains', _run, 'show the isolation domains of a VM',
        'TABLE is the host memory that its page table takes, none as long as '
        'all RAM is allowed as it is.')
    vm_argument(parser)
    add_all(parser)
