# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Virtual functions of SR-IOV devices."""

from . import pci
from .errors import NyxError
from .record import Record


def _check_device(device, number):
    if device.parent:
        raise NyxError(f'{device.address} is a virtual function itself; name '
                       f'its physical function {device.parent}.')
    if not device.total_vfs:
        raise NyxError(f'{device.address} has no SR-IOV; switch it on in the '
                       "host's firmware if the device should have it.")
    if number > device.total_vfs:
        raise NyxError(f'{device.address} can have {device.total_vfs} virtual '
                       f'functions at most, not {number}.')
    if number and device.driver in (None, 'vfio-pci'):
        what = 'is bound to vfio-pci' if device.driver else 'has no driver'
        raise NyxError(f'{device.address} {what}; virtual functions need the '
                       "host's driver of the device, so load it or give the "
                       'device back with "nyx host unbind".')


def _check_vfs(kernel, device):
    """VFs go all at once: none may have a driver that works with it."""
    for vf in pci.virtual_functions(kernel, device):
        if vf.driver:
            remedy = f'"nyx host unbind {vf.address}"' \
                if vf.driver == 'vfio-pci' else \
                f'"echo {vf.address} >{vf.path}/driver/unbind"'
            raise NyxError(f'its virtual function {vf.address} is bound to '
                           f'{vf.driver}, and the number can only change when '
                           f'none is in use; say {remedy} first.')


def set_vfs(kernel, device, number):
    """Make the device have so many VFs, none of which the host drives."""
    _check_device(device, number)
    if device.vfs == number:
        return
    _check_vfs(kernel, device)
    record = Record(kernel)
    count = f'{device.path}/sriov_numvfs'
    autoprobe = f'{device.path}/sriov_drivers_autoprobe'
    if device.vfs:
        kernel.write(count, '0')
        for vf in pci.virtual_functions(kernel, device):
            record.put(vf.address, driver=None, override=None, bound=None)
    if not number:
        before = record.get(device.address).get('autoprobe')
        if before is not None:
            kernel.write(autoprobe, before)
        record.put(device.address, autoprobe=None)
        return
    now = kernel.read(autoprobe)
    if now not in (None, '0'):
        record.put(device.address, autoprobe=now)
        kernel.write(autoprobe, '0')
    kernel.write(count, str(number))
