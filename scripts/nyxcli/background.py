# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The chipset and the ports, which are left out as long as they are well."""

BRIDGES = ('nyx-root-port', 'pcie-root-port', 'ioh3420', 'pcie-pci-bridge',
           'pci-bridge', 'x3130-upstream', 'xio3130-downstream', 'pxb-pcie',
           'i82801b11-bridge')
BUILT_IN = '/machine/q35/', '/machine/unattached/'


def _background(device):
    return (device['driver'] in BRIDGES or
            device['device'].startswith(BUILT_IN)) and \
        device['state'] == 'operational' and not device['total-faults']


def split(devices, everything):
    """Those to show, and a line on those that are left out, or None."""
    if everything:
        return devices, None
    shown = [device for device in devices if not _background(device)]
    hidden = len(devices) - len(shown)
    return shown, f'And {hidden} of the chipset and ports (--all).' \
        if hidden else None


def domains_to_show(domains, devices, everything):
    """Without the automatic domains of what is left out."""
    names = {device['device'] for device in split(devices, everything)[0]}
    return [domain for domain in domains if not domain['automatic']
            or names.intersection(domain['devices'])]


def add_all(parser):
    parser.add_argument('--all', action='store_true', help='in the table, '
                        'show also the chipset and the ports')
