# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Counters of a VM as one flat list, and how they have grown."""

from .metrics_read import disks

# name -> text for people; all of them only ever grow while a VM lives
NAMES = {
    'faults': 'faults', 'quarantines': 'quarantines',
    'recoveries': 'recoveries', 'interrupts': 'interrupts delivered',
    'interrupts-refused': 'interrupts refused', 'iotlb-hits': 'IOTLB hits',
    'iotlb-misses': 'IOTLB misses',
    'iotlb-invalidations': 'IOTLB invalidations',
    'disk-reads': 'disk reads', 'disk-read-bytes': 'bytes read',
    'disk-writes': 'disk writes', 'disk-written-bytes': 'bytes written',
    'disk-errors': 'disk errors', 'packets-received': 'packets received',
    'packets-sent': 'packets sent', 'packets-dropped': 'packets dropped',
    'vm-exits': 'VM exits',
}


def _disk_totals(figures):
    stats = [stats for _, stats in disks(figures)]

    def add(*names):
        return sum(stat.get(name, 0) for stat in stats for name in names)

    return {'disk-reads': add('rd_operations'),
            'disk-read-bytes': add('rd_bytes'),
            'disk-writes': add('wr_operations'),
            'disk-written-bytes': add('wr_bytes'),
            'disk-errors': add('failed_rd_operations',
                               'failed_wr_operations',
                               'failed_flush_operations')}


def _net_totals(figures):
    counters = figures['query-nyx-net']
    if not counters:
        return {}
    return {'packets-received': sum(each['received']['packets']
                                    for each in counters),
            'packets-sent': sum(each['sent']['packets'] for each in counters),
            'packets-dropped': sum(each[way]['drops'] for each in counters
                                   for way in ('received', 'sent'))}


def totals(figures):
    """Counters by NAMES, those that this VM has, of metrics_read.read()."""
    iommu = figures['query-nyx-iommu'] or {}
    found = {}
    if iommu.get('enabled'):
        statistics = figures['statistics'] or {}
        found = {'faults': iommu['fault-events'],
                 'quarantines': statistics.get('quarantines', 0),
                 'recoveries': statistics.get('recoveries', 0),
                 'interrupts': iommu['interrupts']['delivered'],
                 'interrupts-refused': iommu['interrupts']['refused'],
                 **{f'iotlb-{name}': iommu['iotlb'][name]
                    for name in ('hits', 'misses', 'invalidations')}}
    found.update(_disk_totals(figures))
    found.update(_net_totals(figures))
    if figures['vcpu-exits']:
        found['vm-exits'] = sum(vcpu.get('exits', 0)
                                for vcpu in figures['vcpu-exits'])
    return found


def grown(before, after):
    """By how much each counter has grown; one that fell began anew."""
    return {name: value - before.get(name, 0)
            if value >= before.get(name, 0) else value
            for name, value in after.items()}


def hit_rate(counters):
    """Percent of IOTLB lookups that hit; None if there were none."""
    hits, misses = counters.get('iotlb-hits', 0), \
        counters.get('iotlb-misses', 0)
    return 100 * hits / (hits + misses) if hits + misses else None
