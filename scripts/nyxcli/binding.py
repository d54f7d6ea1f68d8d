# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Give functions to vfio-pci, and back to the drivers that they had."""

import subprocess

from . import pci
from .errors import NyxError
from .inuse import InUse, vfio_user
from .record import Record

VFIO = 'vfio-pci'
# The kernel lets a group be used with these, as they do no DMA of their own.
HARMLESS = (None, VFIO, 'pci-stub', 'pcieport')


def _check_iommu(device):
    if device.group is None:
        raise NyxError(f'{device.address} has no IOMMU group, so no IOMMU '
                       "would confine it; switch on VT-d or AMD-Vi in the "
                       "host's firmware and, with an Intel CPU, boot the "
                       'kernel with intel_iommu=on.')
    if device.noiommu:
        raise NyxError(f'{device.address} is in a group without an IOMMU '
                       '(enable_unsafe_noiommu_mode); switch the IOMMU on '
                       'instead, for nothing would confine the device.')


def _check_kind(device):
    if device.is_bridge:
        raise NyxError(f'{device.address} is a bridge, which stays with the '
                       'host; name the devices behind it.')
    if device.vfs:
        raise NyxError(f'{device.address} has {device.vfs} virtual functions, '
                       'which end when its driver goes; remove them first with '
                       f'"nyx host vfs {device.address} 0".')


def _check_unused(device, in_use):
    reason = in_use.reason(device.address)
    if reason:
        raise NyxError(f'{device.address} is in use by the host: {reason}; '
                       'move that elsewhere first.')


def _check_not_open(kernel, device):
    """The kernel would wait, for ever perhaps, until it is closed."""
    user = vfio_user(kernel, device)
    if user:
        raise NyxError(f'{device.address} is in use by process {user[0]} '
                       f'({user[1]}); end that, or unplug the device from its '
                       'VM, first.')


def _check_group(kernel, device, addresses):
    """The whole group goes, but for bridges and what has no driver."""
    for other in pci.group_members(kernel, device.group):
        if other.address not in addresses and not other.is_bridge and \
                other.driver not in HARMLESS:
            raise NyxError(
                f'IOMMU group {device.group} of {device.address} also has '
                f'{other.address} (driver {other.driver}), which cannot be '
                'told apart from it; name both, or put the card into another '
                'slot.')


def _check(kernel, devices):
    in_use = InUse(kernel)
    addresses = {device.address for device in devices}
    for device in devices:
        _check_iommu(device)
        _check_kind(device)
        _check_unused(device, in_use)
        _check_group(kernel, device, addresses)


def _need_vfio(kernel):
    """Load the driver if it is not there."""
    if kernel.exists(f'{pci.DRIVERS}/{VFIO}'):
        return
    if kernel.dry_run:
        print(f'modprobe {VFIO}')
        return
    try:
        done = subprocess.run(['modprobe', VFIO], capture_output=True,
                              text=True, check=False)
        why = done.stderr.strip().splitlines()[-1:] if done.returncode else None
    except OSError as err:
        why = [err.strerror]
    if why is not None:
        raise NyxError('the driver vfio-pci cannot be loaded '
                       f'({" ".join(why) or "modprobe failed"}); install the '
                       'modules of the running kernel, and run the command as '
                       'root.')


def _attach(kernel, address):
    """Let the kernel choose the driver, which the override determines."""
    kernel.write('/sys/bus/pci/drivers_probe', address)


def _detach(kernel, device):
    if device.driver:
        kernel.write(f'{pci.DRIVERS}/{device.driver}/unbind', device.address)


def _override(kernel, device, driver):
    # An empty line takes the override away.
    kernel.write(f'{device.path}/driver_override', driver or '')


def _bind_one(kernel, device):
    Record(kernel).put(device.address, bound=True, driver=device.driver,
                       override=device.override)
    _override(kernel, device, VFIO)
    _detach(kernel, device)
    _attach(kernel, device.address)
    if not kernel.dry_run:
        now = pci.look(kernel, device.address).driver
        if now != VFIO:
            raise NyxError(f'vfio-pci did not take {device.address}; see the '
                           'end of "dmesg" for its reason.')


def _restore(kernel, device, before):
    """As it was before _bind_one(); without a record the kernel chooses."""
    record = Record(kernel)
    _override(kernel, device, before.get('override'))
    _detach(kernel, device)
    driver = before.get('driver')
    if driver and kernel.exists(f'{pci.DRIVERS}/{driver}'):
        kernel.write(f'{pci.DRIVERS}/{driver}/bind', device.address)
    elif driver or not before.get('bound'):
        _attach(kernel, device.address)
    record.put(device.address, bound=None, driver=None, override=None)


def bind(kernel, devices):
    """Bind all to vfio-pci, or none: after an error all is as before."""
    _check(kernel, devices)
    _need_vfio(kernel)
    done = []
    try:
        for device in devices:
            if device.driver != VFIO:
                done.append(device.address)
                _bind_one(kernel, device)
    except NyxError:
        for address in done:
            try:
                _restore(kernel, pci.look(kernel, address),
                         Record(kernel).get(address))
            except NyxError:
                pass                # the first error tells what is wrong
        raise


def unbind(kernel, devices):
    """Give devices back; NyxError, and nothing done, if one is not ours."""
    for device in devices:
        if device.driver != VFIO:
            raise NyxError(f'{device.address} is not bound to vfio-pci, so '
                           'there is nothing to give back.')
    for device in devices:
        _check_not_open(kernel, device)
    for device in devices:
        _restore(kernel, device, Record(kernel).get(device.address))
