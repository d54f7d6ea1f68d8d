# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Figures of VMs as Prometheus wants them.

What is not known is left out: an absent series is not 0.
"""

from prometheus_client.core import (CounterMetricFamily, GaugeMetricFamily,
                                    HistogramMetricFamily)

from .metrics_read import disks, nic_name

NS = 1e-9
VM_STATES = ('running', 'paused', 'inmigrate', 'postmigrate', 'suspended',
             'shutdown', 'internal-error', 'io-error', 'guest-panicked')
DEVICE_STATES = ('operational', 'quarantined', 'recovering', 'failed')
MIGRATION_STATES = ('none', 'setup', 'active', 'postcopy-active',
                    'pre-switchover', 'device', 'completed', 'failed',
                    'cancelling', 'cancelled')
KINDS = {'counter': CounterMetricFamily, 'gauge': GaugeMetricFamily,
         'histogram': HistogramMetricFamily}


class Families:
    """The metrics of one scrape: each name is there once, for all VMs."""

    def __init__(self):
        self._families = {}

    def _family(self, kind, name, text, labels):
        if name not in self._families:
            self._families[name] = KINDS[kind](f'nyx_{name}', text,
                                               labels=labels)
        return self._families[name]

    def add(self, kind, name, text, value, /, **labels):
        """A sample of a counter or gauge."""
        self._family(kind, name, text, list(labels)).add_metric(
            list(labels.values()), value)

    def histogram(self, name, text, figures, /, **labels):
        """A sample made of QMP's NyxHistogramInfo, in seconds."""
        count, buckets = 0, []
        bounds = [*(f'{ns * NS:g}' for ns in figures['boundaries-ns']),
                  '+Inf']
        for bound, bin_count in zip(bounds, figures['bins']):
            count += bin_count
            buckets.append((bound, count))
        self._family('histogram', name, text, list(labels)).add_metric(
            list(labels.values()), buckets, figures['sum-ns'] * NS)

    def states(self, name, text, states, now, /, **labels):
        """One gauge per state; it is 1 for the present one."""
        for state in dict.fromkeys((*states, now)):
            self.add('gauge', name, text, int(state == now), **labels,
                     state=state)

    def __iter__(self):
        return iter(self._families.values())


def _vm(out, vm, figures):
    iommu = figures['query-nyx-iommu'] or {}
    version = figures['query-version']['qemu']
    kvm = (figures['query-kvm'] or {}).get('enabled', False)
    out.add('gauge', 'vm_info', 'What the VM is; always 1', 1, vm=vm,
            qemu='.'.join(str(version[part]) for part in
                          ('major', 'minor', 'micro')),
            machine=(figures['machine'] or '').removesuffix('-machine'),
            stage1=iommu.get('stage1', 'none') if iommu.get('enabled')
            else '', accelerator='kvm' if kvm else 'tcg')
    out.states('vm_state', 'Run state of the VM', VM_STATES,
               figures['query-status']['status'], vm=vm)
    out.add('gauge', 'vm_vcpus', 'Number of vCPUs',
            len(figures['query-cpus-fast']), vm=vm)


def _iommu(out, vm, figures):
    iommu, statistics = figures['query-nyx-iommu'], figures['statistics']
    if not iommu or not iommu['enabled']:
        return
    out.add('gauge', 'domains', 'Isolation domains', iommu['domains'], vm=vm)
    out.add('gauge', 'devices', 'PCI functions behind the Nyx IOMMU',
            iommu['devices'], vm=vm)
    out.add('gauge', 'restores', 'Times within the last hour that the policy '
            'restored a snapshot', iommu['restores'], vm=vm)
    for name, text in (
            ('hits', 'Translations found in a cache (IOTLB)'),
            ('misses', 'Translations looked up in a table'),
            ('invalidations', 'Times that the cache of a device was emptied')):
        out.add('counter', f'iotlb_{name}', text, iommu['iotlb'][name], vm=vm)
    for name, text in (
            ('quarantines', 'Times that a device was cut off'),
            ('recoveries', 'Times that a device was recovered')):
        if statistics:
            out.add('counter', name, text, statistics[name], vm=vm)


def _domains(out, vm, figures):
    for domain in figures['query-nyx-domains'] or []:
        labels = {'vm': vm, 'domain': domain['id']}
        out.add('gauge', 'domain_info', 'What a domain is; always 1', 1,
                **labels, isolation=domain['isolation'],
                automatic=str(domain['automatic']).lower())
        for name, key, text in (
                ('mapped_bytes', 'mapped-bytes', 'Bytes that the devices of a '
                 'domain may access'),
                ('mappings', 'mappings', 'Contiguous ranges that a domain '
                 'maps'),
                ('table_bytes', 'table-bytes', "Host memory of a domain's "
                 'table')):
            out.add('gauge', f'domain_{name}', text, domain[key], **labels)
        out.add('gauge', 'domain_devices', 'Devices in a domain',
                len(domain['devices']), **labels)


def _device(out, vm, device):
    labels = {'vm': vm, 'device': device['device']}
    out.add('gauge', 'device_info', 'What a device is; always 1', 1, **labels,
            driver=device['driver'], bdf=device['bdf'],
            domain=device['domain'], backend=device['backend'],
            dma=device['dma'])
    out.states('device_state', 'State of a device', DEVICE_STATES,
               device['state'], **labels)
    out.add('gauge', 'device_faults_observable', 'Whether faults of the '
            'device can be seen; if 0, there are no fault figures',
            int(device['faults-observable']), **labels)
    if device['faults-observable']:
        for kind, count in device['faults-by-type'].items():
            out.add('counter', 'faults', 'Refused accesses of a device',
                    count, **labels, type=kind)
        out.add('gauge', 'device_window_faults', 'Faults within the window '
                'that ends now', device['fault-count'], **labels)
    policy = device['policy']
    out.add('gauge', 'device_max_faults', 'Faults within the window that the '
            'device may cause', policy['max-faults'], **labels)
    out.add('gauge', 'device_recoveries', 'Recoveries within the last hour',
            device['recoveries'], **labels)
    out.add('gauge', 'device_max_recoveries', 'Recoveries within an hour, '
            'after which the device fails', policy['max-recoveries'],
            **labels)
    for result, count in device['interrupts'].items():
        out.add('counter', 'interrupts', 'Message signalled interrupts that a '
                'device wrote', count, **labels, result=result)
    server = device.get('server')
    if server:
        out.add('gauge', 'server_connected', 'Whether the vfio-user server of '
                'a device is listened to', int(server['connected']), **labels)
        out.add('counter', 'dma_messages', 'Accesses to guest memory by '
                'message of a vfio-user server', server['dma-messages'],
                **labels)
        out.add('counter', 'dma_message_bytes', 'Bytes that these asked for',
                server['dma-message-bytes'], **labels)


def _devices(out, vm, figures):
    for device in figures['query-nyx-devices'] or []:
        _device(out, vm, device)


def _latency(out, vm, figures):
    latency = figures['query-nyx-latency']
    if not latency:
        return
    out.add('gauge', 'latency_sampling', 'One in so many operations is timed; '
            '0: none', latency['sampling'], vm=vm)
    for device in latency['devices']:
        for kind, name, text in (
                ('dma', 'dma_translation_seconds', 'How long sampled '
                 'translations of DMA took'),
                ('interrupts', 'interrupt_remapping_seconds', 'How long it '
                 'took to filter and remap sampled interrupts')):
            if latency['sampling'] or any(device[kind]['bins']):
                out.histogram(name, text, device[kind], vm=vm,
                              device=device['device'])


def _exits(out, vm, figures):
    vcpus = figures['vcpu-exits']
    out.add('gauge', 'vm_exits_available', 'Whether exits are counted: KVM '
            'does, TCG has none', int(vcpus is not None), vm=vm)
    for number, exits in enumerate(vcpus or []):
        for name, count in exits.items():
            if name == 'exits':
                out.add('counter', 'vcpu_exits', 'VM exits of a vCPU', count,
                        vm=vm, vcpu=str(number))
            else:
                out.add('counter', 'vcpu_exits_by_reason', 'VM exits of a '
                        'vCPU whose reason KVM counts; some have several, '
                        'some none', count, vm=vm, vcpu=str(number),
                        reason=name.removesuffix('_exits'))


def _disks(out, vm, figures):
    for name, stats in disks(figures):
        for key, op in (('rd', 'read'), ('wr', 'write'), ('flush', 'flush'),
                        ('unmap', 'discard')):
            labels = {'vm': vm, 'disk': name, 'operation': op}
            out.add('counter', 'disk_operations', 'Finished requests',
                    stats[f'{key}_operations'], **labels)
            out.add('counter', 'disk_seconds', 'Time that these took, '
                    'together', stats[f'{key}_total_time_ns'] * NS, **labels)
            out.add('counter', 'disk_errors', 'Requests that failed',
                    stats[f'failed_{key}_operations'], **labels)
            if key != 'flush':
                out.add('counter', 'disk_bytes', 'Bytes of finished requests',
                        stats[f'{key}_bytes'], **labels)


def _net(out, vm, figures):
    for counter in figures['query-nyx-net'] or []:
        for direction in ('received', 'sent'):
            labels = {'vm': vm, 'nic': nic_name(counter),
                      'counter': counter['id'],
                      'queue': str(counter['queue']), 'direction': direction}
            for name, text in (
                    ('packets', 'Packets to the guest (received) or from it'),
                    ('bytes', 'Bytes of these'),
                    ('drops', 'Packets that QEMU lost')):
                out.add('counter', f'net_{name}', text,
                        counter[direction][name], **labels)


def _migration(out, vm, figures):
    migration, check = (figures['query-migrate'] or {},
                        figures['query-nyx-migration'])
    out.states('migration_state', 'State of the last migration',
               MIGRATION_STATES, migration.get('status', 'none'), vm=vm)
    if check:
        out.add('gauge', 'migration_ready', 'Whether nothing is known to '
                'stand in the way of a migration', int(check['ready']), vm=vm)
    ram = migration.get('ram', {})
    for key, name, text in (
            ('transferred', 'transferred_bytes', 'Bytes sent'),
            ('remaining', 'remaining_bytes', 'Bytes of memory left to send'),
            ('total', 'memory_bytes', 'Bytes of memory to send')):
        if key in ram:
            out.add('gauge', f'migration_{name}', text, ram[key], vm=vm)
    for key, text in (
            ('downtime', 'Time that the VM stood still'),
            ('expected-downtime', 'Time that it would stand still now'),
            ('total-time', 'Time since the migration began')):
        if key in migration:
            out.add('gauge', f'migration_{key.replace("-", "_")}_seconds',
                    text, migration[key] / 1000, vm=vm)


PARTS = (_vm, _iommu, _domains, _devices, _latency, _exits, _disks, _net,
         _migration)


def export(out, vm, figures):
    """Add to the Families out what metrics_read.read() found."""
    for part in PARTS:
        part(out, vm, figures)


def export_bottlenecks(out, vm, bottlenecks):
    """bottlenecks: of bottleneck.find(), worst first; the first has rank 1."""
    for rank, each in enumerate(bottlenecks, 1):
        labels = {'vm': vm, 'kind': each.kind, 'subject': each.subject}
        out.add('gauge', 'bottleneck_ratio', 'How many times a figure is what '
                'is worth a look, since the last scrape; absent if it is not',
                each.ratio, **labels)
        out.add('gauge', 'bottleneck_rank', '1: the most likely bottleneck',
                rank, **labels)
