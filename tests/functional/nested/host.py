# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The host inside a VM: hardware by the outer QEMU, vfio-pci by its Linux."""

import re
import shutil
import tempfile
import time
from pathlib import Path

from nyxtest.errors import GuestTimeout, NyxTestError
from nyxtest.guest import pci_address
from nyxtest.vm import VM

from .inner import PORTS, Inner

# TCG, because it emulates AMD's SVM: the middle guest has a /dev/kvm.
ACCEL = 'tcg,thread=multi'
MEMORY = '4096M'
DISK_BYTES = 64 << 20
KERNEL_ARGUMENTS = 'nokaslr tsc=reliable iommu=nopt'
IOMMUS = {
    'intel': ('intel-iommu,intremap=on,caching-mode=on', 'intel_iommu=on'),
    'amd': ('amd-iommu,dma-remap=on,intremap=on', 'amd_iommu=on'),
}
FAULT = 'vtd_dmar_fault'        # trace event of intel-iommu
SLOTS = 2                       # inner QEMUs at the same time
VFIO_MODULES = ('vfio_iommu_type1', 'vfio_pci')
LINKS = ('mkdir -p /dev/virtio-ports /run/inner; '
         'for f in /sys/class/virtio-ports/*/name; do '
         'd=${f%/name}; ln -sf /dev/${d##*/} /dev/virtio-ports/$(cat $f); '
         'done')


class Host(VM):
    """Describe hardware, start(), prepare VFs, run QEMUs with inner()."""

    def __init__(self, image, folder, iommu='intel', machine='q35',
                 memory=MEMORY):
        super().__init__(image, folder, ACCEL, 2, memory)
        self.machine = machine
        self.machine_options = ['kernel-irqchip=split']
        device, argument = IOMMUS[iommu]
        if self.has_nyx:
            self.machine_options.append(f'stage1={iommu}')
        else:
            self.add('-device', device)
        self.kernel_arguments += [KERNEL_ARGUMENTS, argument]
        self._sockets = Path(tempfile.mkdtemp(prefix='nyx-nested-'))
        self._root_ports = 0
        self._running = {}
        self._add_ports()
        self._hardware_log = folder / 'hardware.log'
        self.add('-D', str(self._hardware_log), '-trace', FAULT)

    def _add_ports(self):
        self.add('-device', 'virtio-serial-pci,id=serial',
                 modules=['virtio_pci', 'virtio_console'])
        for slot in range(SLOTS):
            for port in PORTS:
                name = f'{port}{slot}'
                self.add('-chardev', f'socket,id={name},server=on,wait=off,'
                         f'path={self.socket(name)}', '-device',
                         f'virtserialport,chardev={name},name={name}')

    def socket(self, name):
        """Path of the socket whose other end is a port of this name."""
        return self._sockets / name

    def root_port(self):
        """A new PCIe port of the hardware; returns its bus."""
        self._root_ports += 1
        name = f'rp{self._root_ports}'
        self.add('-device', f'pcie-root-port,id={name},'
                 f'chassis={self._root_ports}')
        return name

    def igb(self, name):
        """A network card with up to 7 VFs; the host's loopback is 10.0.2.2."""
        self.add('-netdev', f'user,id={name}-net', '-device',
                 f'igb,id={name},bus={self.root_port()},romfile=,'
                 f'netdev={name}-net', modules=['igb'])

    def nvme(self, name, vfs=2):
        """An NVMe controller with VFs; all see the same disk."""
        self.add('-device', f'nvme-subsys,id={name}-subsys', '-device',
                 f'nvme,id={name},bus={self.root_port()},serial={name},'
                 f'subsys={name}-subsys,sriov_max_vfs={vfs},'
                 f'sriov_vq_flexible={2 * vfs},sriov_vi_flexible={vfs}',
                 '-blockdev',
            f'driver=null-co,node-name={name}-disk,read-zeroes=on,'
            f'size={DISK_BYTES}', '-device',
            f'nvme-ns,drive={name}-disk,shared=on', modules=['nvme'])

    def start(self, *args):
        super().start(*args)
        self.agent.check(LINKS)
        # Without modules: all is in the kernel.
        if self._image.modules:
            self.agent.check('load-modules ' + ' '.join(VFIO_MODULES))

    def create_vfs(self, name, number):
        """Create VFs of a device and bind them to vfio-pci: addresses."""
        address = pci_address(self, name)
        path = f'/sys/bus/pci/devices/{address}'
        self.agent.wait(f'[ -d {path}/driver ]')
        self.agent.check(f'echo 0 >{path}/sriov_drivers_autoprobe && '
                         f'echo {number} >{path}/sriov_numvfs')
        vfs = self.agent.check(f'cd {path} && for n in $(seq 0 '
                               f'{number - 1}); do readlink virtfn$n; done')
        addresses = [line.rsplit('/', 1)[-1] for line in vfs.splitlines()]
        for address in addresses:
            self.bind_vfio(address)
        return addresses

    def create_nvme_vfs(self, name, number):
        """The same for an NVMe controller, whose VFs need resources."""
        address = pci_address(self, name)
        listing = f'ls /sys/bus/pci/devices/{address}/nvme'
        self.agent.wait(f'[ -n "$({listing})" ]')
        controller = self.agent.check(listing)
        state = f'/sys/class/nvme/{controller}/state'
        self.agent.wait(f'[ "$(cat {state})" = live ]')
        self.agent.check(f'nyx-nvme-vf /dev/{controller} release && '
                         f'echo 1 >/sys/class/nvme/{controller}/'
                         'reset_controller')
        self.agent.wait(f'[ "$(cat {state})" = live ]')
        vfs = self.create_vfs(name, number)
        self.agent.check(f'nyx-nvme-vf /dev/{controller} online {number}')
        return vfs

    def bind_vfio(self, address):
        path = f'/sys/bus/pci/devices/{address}'
        self.agent.check(f'echo vfio-pci >{path}/driver_override && '
                         f'{{ [ ! -e {path}/driver ] || '
                         f'echo {address} >{path}/driver/unbind; }} && '
                         f'echo {address} >/sys/bus/pci/drivers_probe && '
                         f'[ "$(basename "$(readlink {path}/driver)")" = '
                         'vfio-pci ]')

    def group(self, address):
        """Number of a function's IOMMU group."""
        link = self.agent.check('readlink /sys/bus/pci/devices/'
                                f'{address}/iommu_group')
        return int(link.rsplit('/', 1)[-1])

    def load_kvm(self):
        self.agent.check('load-modules kvm_amd && [ -c /dev/kvm ]')

    def iommu_faults(self, address):
        """Pages (IOVA) that the (Intel) IOMMU refused to the function.

        The outer QEMU tells; the host's kernel leaves some out of its log.
        """
        bus, slot, function = re.fullmatch(r'0000:(..):(..)\.(.)',
                                           address).groups()
        source = int(bus, 16) << 8 | int(slot, 16) << 3 | int(function)
        found = re.findall(rf'{FAULT} sid {source:#x} fault \d+ addr (\w+)',
                           self._hardware_log.read_text())
        return {int(iova, 16) & ~0xfff for iova in found}

    def wait_iommu_fault(self, address, iova, seconds=30):
        """Wait until there is such a fault."""
        limit = time.monotonic() + seconds
        while iova not in self.iommu_faults(address):
            if time.monotonic() > limit:
                raise GuestTimeout(f'the IOMMU refused {address} no access to '
                                   f'{iova:#x} within {seconds} s.')
            self.agent.check('true')

    def inner(self, *arguments, slot=0, **options):
        """Start a QEMU in the host and connect to it: see Inner."""
        old = self._running.get(slot)
        if old and old.running():
            raise NyxTestError(f'slot {slot} still has a QEMU that runs.')
        self._running[slot] = Inner(self, slot, arguments, **options)
        self._running[slot].start()
        return self._running[slot]

    def stop(self):
        for inner in self._running.values():
            inner.close()
        super().stop()
        shutil.rmtree(self._sockets, ignore_errors=True)
