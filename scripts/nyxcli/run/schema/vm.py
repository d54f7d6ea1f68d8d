# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The machine itself: processors, memory, firmware, boot, TPM."""

from ..key import Key, Section
from ..values import Bool, Choice, Cpus, File, Ident, Many, Properties, Size, \
    Text, Whole
from .policy import UINT32, errors, policy

MIB = 1 << 20

TOP = Section('', 'At the beginning of the file, before any table.', keys=(
    Key('name', Text('[A-Za-z0-9][A-Za-z0-9_.-]{0,63}', 'a name of up to 64 '
                     'letters, digits, ".", "_" and "-"'),
        'Name of the VM; the other commands find it by this.', required=True),
    Key('uuid', Text('[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}',
                     'a UUID'),
        'What the guest sees as its own UUID.', default_text='none'),
    Key('clock', Choice(('utc', 'localtime')), "What the guest's clock of the "
        'hardware shows.', default='utc'),
    Key('rng', Bool(), 'A virtio device that gives the guest random numbers.',
        default=True),
))

MACHINE = Section('machine', 'The machine ``nyx-pc``, and the policy of '
                  'devices whose domain has none.', keys=(
    Key('accel', Choice(('auto', 'kvm', 'tcg')), '"auto": KVM where '
        '/dev/kvm can be opened.', default='auto'),
    Key('stage1', Choice(('none', 'intel', 'amd', 'virtio')),
        'IOMMU that the guest sees.', default='none', option='machine:stage1'),
    Key('stage1-options', Properties(), 'Properties of that IOMMU.',
        default_text='none'),
    Key('default-isolation', Choice(('strict', 'shared', 'unmanaged')),
        'For devices that name no domain.', default='strict',
        option='machine:default-isolation'),
    *policy('machine'),
    Key('recovery-snapshot', Text(wanted='the name of a snapshot'),
        'Internal snapshot that "restore-snapshot" of the policy goes back '
        'to.', option='machine:recovery-snapshot', default_text='none'),
    Key('max-restores', Whole(0, UINT32), 'How often within an hour.',
        option='machine:max-restores', default=3),
    Key('hotplug-ports', Whole(0, 24), 'Root ports for devices that are '
        'plugged in while the VM runs.', default=4),
    Key('unplug-timeout-ms', Whole(0, UINT32), 'How long the guest has to let '
        'go of a device that is unplugged while it does not work, in '
        'milliseconds.', option='machine:unplug-timeout-ms', default=10000),
    *errors(),
    Key('max-resets', Whole(0, 255), 'How often within an hour errors may '
        'reset the VM or a processor.', option='machine:max-resets',
        default=3),
    Key('dump', File(), 'Folder, which has to be there, for a diagnostic dump '
        'before anything is done on an error.', option='machine:dump',
        default_text='no dump'),
    Key('dump-memory', Bool(), "Write the guest's memory there, too.",
        option='machine:dump-memory', default=False),
    Key('max-dumps', Whole(0, UINT32), 'How many are written at most.',
        option='machine:max-dumps', default=5),
    Key('vcpu-check-ms', Whole(0, UINT32), 'Time between two looks at each '
        'processor, in milliseconds; 0: none.', option='machine:vcpu-check-ms',
        default=1000),
    Key('vcpu-stuck-ms', Whole(0, UINT32), 'How long one may give no answer, '
        'or take no interrupts, in milliseconds.',
        option='machine:vcpu-stuck-ms', default=30000),
    Key('latency-sampling', Whole(0, UINT32), 'Time one in so many DMA '
        'translations and interrupts, for "nyx metrics"; 0: none.',
        option='machine:latency-sampling', default=0),
))

CPUS = Section('cpus', 'Processors of the guest.', shorthand='count', keys=(
    Key('count', Whole(1, 1024), 'How many the guest starts with.', default=1),
    Key('max', Whole(1, 1024), 'How many there may be after hotplug.',
        default_text='count'),
    Key('sockets', Whole(1, 1024), 'Topology: sockets.',
        default_text="QEMU's"),
    Key('cores', Whole(1, 1024), 'Topology: cores of a socket.',
        default_text="QEMU's"),
    Key('threads', Whole(1, 2), 'Topology: threads of a core.',
        default_text="QEMU's"),
    Key('model', Text('[A-Za-z0-9][A-Za-z0-9_.,+=-]*', 'a CPU model of QEMU'),
        'Model, with properties if wanted: "EPYC-Milan,x2apic=off".',
        default_text='"host" with KVM, else "max"'),
    Key('pin', Many(Cpus(), 1), 'For each processor in turn, the host CPUs '
        'that it runs on; the last goes for all that follow.',
        default_text='not pinned'),
    Key('emulator-pin', Cpus(), "Host CPUs of QEMU's other threads.",
        default_text='not pinned'),
))

MEMORY = Section('memory', 'Memory of the guest.', shorthand='size', keys=(
    Key('size', Size(MIB), 'How much.', default=512 * MIB),
    Key('hugepages', Choice(('2M', '1G')), 'Take it from pages of this size, '
        'which the host has to have free.', default_text="the host's"),
    Key('shared', Bool(), 'Let other processes share it; vhost-user and '
        'vfio-user need that.', default_text='true if a device needs it'),
    Key('preallocate', Bool(), 'Have all of it before the guest starts.',
        default=False),
    Key('lock', Bool(), 'Never swap it out.', default=False),
    Key('host-node', Whole(0, 127), 'Take it from this NUMA node of the host.',
        default_text='any'),
    Key('max', Size(MIB), 'How much there may be after memory has been '
        'plugged in ("pc-dimm"), with slots.', default_text='size'),
    Key('slots', Whole(1, 256), 'How many modules can be plugged in, with '
        'max.', default_text='none'),
))

NUMA = Section('numa', 'A NUMA node of the guest, the first one being number '
               '0. Together they have all memory and all processors.',
               many=True, keys=(
    Key('id', Ident(), 'Its name.', default_text='numa0, ...'),
    Key('memory', Size(MIB), 'How much of the memory.',
        default_text='an equal part'),
    Key('cpus', Cpus('processors of the guest'), 'Its processors, from 0 on.',
        default_text='in turn, like the memory'),
    Key('host-node', Whole(0, 127), 'Take its memory from this NUMA node of '
        'the host.', default_text='any'),
    Key('distances', Many(Whole(10, 254)), 'How far each node is, the first '
        'one first; 10 for itself.', default_text="10 and 20"),
))

FIRMWARE = Section('firmware', 'What starts the guest.', shorthand='type',
                   keys=(
    Key('type', Choice(('bios', 'uefi')), 'SeaBIOS, or OVMF where the '
        'descriptors in /usr/share/qemu/firmware say.', default='bios'),
    Key('secure-boot', Bool(), 'Start only what is signed: OVMF with SMM, and '
        "with Microsoft's keys enrolled.", default=False,
        when=('type', ('uefi',))),
    Key('code', File(), 'Firmware of your own.',
        default_text='found on the host'),
    Key('vars', File(), "The guest's UEFI variables, kept here.",
        default_text='in the state directory', when=('type', ('uefi',))),
    Key('template', File(), 'What vars is copied from when it is not there.',
        default_text='found on the host', when=('type', ('uefi',))),
))

BOOT = Section('boot', 'What the firmware starts.', keys=(
    Key('order', Many(Text(wanted='the id of a disk, NIC or other device')),
        'Ids of devices to start from, the first choice first.',
        default_text="the firmware's"),
    Key('menu', Bool(), 'Ask the user.', default=False),
    Key('kernel', File(), 'A kernel to start instead, without a boot loader.',
        default_text='none'),
    Key('initrd', File(), 'Its initial RAM disk.', default_text='none'),
    Key('append', Text(wanted='text'), 'Its command line.',
        default_text='none'),
))

TPM = Section('tpm', 'A TPM 2.0 by swtpm, which starts and ends with the VM.',
              shorthand='enabled', keys=(
    Key('enabled', Bool(), 'Have one.', default=False),
    Key('model', Choice(('crb', 'tis')), 'How the guest talks to it.',
        default='crb'),
    Key('state', File(), 'Directory of what it remembers.',
        default_text='in the state directory'),
))
