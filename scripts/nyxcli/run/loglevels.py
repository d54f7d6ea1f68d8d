# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Components of the log, and which trace events belong to which level."""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

LEVELS = ('error', 'warn', 'info', 'debug', 'trace')


@dataclass(frozen=True)
class Component:
    """Patterns of trace events for each level; a level has those above it.

    masks: items of QEMU's -d, in the same way.
    """

    warn: tuple = ()
    info: tuple = ()
    debug: tuple = ()
    trace: tuple = ()
    masks: dict = field(default_factory=dict)
    help: str = ''

    def patterns(self, level):
        """All trace events that are told at a level."""
        found = []
        for name in LEVELS[1:LEVELS.index(level) + 1]:
            found += getattr(self, name)
        return found


COMPONENTS = {
    'iommu': Component(
        help='domains, devices, faults, quarantine, recovery',
        warn=('nyx_fault', 'nyx_limit', 'nyx_limit_action', 'nyx_aer',
              'nyx_root_port_*'),
        info=('nyx_state', 'nyx_assign'),
        debug=('nyx_attach', 'nyx_domain_map', 'nyx_domain_unmap',
               'nyx_domain_translate', 'nyx_endpoint_view', 'nyx_ram_range',
               'nyx_device_reset'),
        trace=('nyx_domain_invalidate', 'nyx_mirror_*')),
    'interrupts': Component(
        help='messages of devices, and what the filter makes of them',
        warn=('nyx_msi_refuse',), debug=('nyx_msi_route_refuse',),
        trace=('nyx_msi_deliver',)),
    'stage1': Component(
        help="the guest's own IOMMU",
        debug=('nyx_stage1_switch',),
        trace=('nyx_stage1_unmap', 'vtd_*', 'amdvi_*', 'virtio_iommu_*')),
    'vfio': Component(
        help='passthrough and vfio-user',
        warn=('nyx_vfio_user_broken', 'nyx_vfio_user_access_error'),
        debug=('vfio_pci_reset', 'vfio_pci_hot_reset', 'vfio_intx_enable',
               'nyx_vfio_user_map', 'nyx_vfio_user_unmap'),
        trace=('vfio_*', 'nyx_vfio_user_dma')),
    'vhost': Component(
        help='vhost and vhost-user',
        debug=('vhost_dev_*', 'vhost_user_event'),
        trace=('vhost_*',)),
    'block': Component(
        help='disks, controllers, images',
        debug=('pci_nvme_err_*', 'pci_nvme_mmio_start_success',
               'pci_nvme_mmio_stopped', 'ahci_reset_port', 'nyx_ahci_restart',
               'virtio_blk_req_complete'),
        trace=('pci_nvme_*', 'ahci_*', 'virtio_blk_*', 'virtio_scsi_*',
               'qcow2_*')),
    'net': Component(
        help='network cards',
        debug=('virtio_net_announce_notify', 'e1000e_core_ctrl_phy_reset',
               'igb_core_*'),
        trace=('virtio_net_*', 'e1000*', 'igb_*')),
    'hotplug': Component(
        help='devices that come and go',
        info=('nyx_unplug', 'acpi_pci_unplug', 'acpi_pci_eject_slot'),
        debug=('acpi_pci_*', 'pci_update_mappings_*', 'pci_pm_*',
               'pcie_cap_slot_write_config'),
        trace=('pci_cfg_*',)),
    'migration': Component(
        help='migration and snapshots',
        info=('migrate_set_state', 'migrate_error'),
        debug=('migration_*', 'savevm_state_*'),
        trace=('savevm_*', 'loadvm_*', 'vmstate_*')),
    'tpm': Component(
        help='the TPM',
        debug=('tpm_emulator_*',), trace=('tpm_*',)),
    'vm': Component(
        help='starts, stops, resets, power, errors of the guest',
        warn=('watchdog_perform_action', 'nyx_error_action', 'nyx_vcpu_stuck',
              'nyx_vcpu_recovered'),
        info=('runstate_set', 'qemu_system_powerdown_request',
              'qemu_system_shutdown_request'),
        debug=('vm_state_notify', 'watchdog_set_action', 'nyx_vcpu_silent',
               'nyx_acpi_notify', 'nyx_acpi_taken', 'nyx_acpi_fan',
               'nyx_acpi_throttle'),
        trace=('cpu_reset', 'nyx_vcpu_sight')),
    'guest': Component(
        help='what the guest does wrong with its devices',
        masks={'warn': ('guest_errors',), 'debug': ('unimp',),
               'trace': ('invalid_mem',)}),
    'qmp': Component(
        help='commands of the operator',
        debug=('qmp_enter_*',), trace=('qmp_exit_*', 'handle_qmp_command')),
    'testdev': Component(
        help='nyx-testdev', debug=('nyx_testdev_*',)),
}


def levels(logging):
    """The level of each component by the section [logging]."""
    own = logging['components']
    return {name: own.get(name, logging['level']) for name in COMPONENTS}


def patterns(logging):
    """All trace events that are wanted."""
    found = []
    for name, level in levels(logging).items():
        found += COMPONENTS[name].patterns(level)
    return found


def masks(logging):
    """All items of -d that are wanted."""
    found = []
    for name, level in levels(logging).items():
        for step in LEVELS[:LEVELS.index(level) + 1]:
            found += COMPONENTS[name].masks.get(step, ())
    return found


def classify(event):
    """Component and level of a trace event; None if it is of none."""
    for level in LEVELS[1:]:
        for name, component in COMPONENTS.items():
            if any(fnmatchcase(event, pattern)
                   for pattern in getattr(component, level)):
                return name, level
    return None
