# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Disks and the threads that serve them."""

from ..key import Key, Section
from ..values import Bool, Choice, Cpus, File, Ident, Ref, Size, Text, Whole
from .common import DOMAIN, PORT, ident

IOTHREAD = Section('iothread', 'A thread of QEMU that serves disks.',
                   many=True, keys=(
    Key('id', Ident(), 'Its name.', required=True),
    Key('pin', Cpus(), 'Host CPUs that it runs on.',
        default_text='not pinned'),
    Key('poll-max-ns', Whole(0, 1 << 32), 'How long it polls before it '
        'sleeps, in nanoseconds.', default_text="QEMU's",
        option='iothread:poll-max-ns'),
))

DISK = Section('disk', 'A disk, or a drive for CDs.', many=True, keys=(
    ident('disk'),
    Key('file', File(), 'Image or block device; a drive for CDs may be '
        'empty.', default_text='none'),
    Key('format', Choice(('raw', 'qcow2')), 'Of the image.',
        default_text='"qcow2" for *.qcow2, else "raw"'),
    Key('create', Size(512), 'Make the image, of this size, if it is not '
        'there.', default_text='it must be there'),
    Key('bus', Choice(('virtio', 'nvme', 'ahci', 'scsi', 'usb')), 'What the '
        'guest sees: virtio-blk, NVMe, SATA, SCSI by virtio, or a USB disk.',
        default='virtio'),
    Key('cdrom', Bool(), 'A drive for CDs, with bus "ahci" or "scsi".',
        default=False, when=('bus', ('ahci', 'scsi'))),
    Key('read-only', Bool(), 'Refuse writes.', default_text='true for a CD'),
    Key('serial', Text('[A-Za-z0-9_.+-]{1,20}', 'up to 20 letters, digits '
                       'and "_.+-"'),
        'Serial number.', default_text='the id', option='disk:serial',
        xml='serial'),
    Key('cache', Choice(('writeback', 'none', 'unsafe')), "Use of the host's "
        'page cache: with it; without; with it, and the guest cannot flush '
        'it.', default='writeback',
        xml='driver@cache'),
    Key('aio', Choice(('threads', 'native', 'io_uring')), 'How the host reads '
        'and writes; "native" needs cache "none".',
        default='threads', option='file:aio', xml='driver@io'),
    Key('discard', Bool(), 'Give back what the guest discards.', default=True),
    Key('iothread', Ref('iothread'), 'Thread that serves it.',
        default_text="QEMU's main loop", when=('bus', ('virtio', 'scsi'))),
    Key('queues', Whole(1, 64), 'Queues of a virtio disk.',
        default_text="QEMU's", option='disk:num-queues',
        xml='driver@queues', when=('bus', ('virtio',))),
    Key('shadow-doorbells', Bool(), 'Let the guest submit several requests '
        'with one exit. With Linux before 6.8, but for 6.6.59 and later 6.6, '
        'requests then hang when the disk is reset under load.',
        default=False, when=('bus', ('nvme',))),
    Key('domain', DOMAIN.type, 'Domain that it joins; SCSI disks share a '
        'controller with those of the same domain and thread, SATA disks the '
        "machine's, and USB disks one of theirs.",
        default_text='one of its own',
        when=('bus', ('virtio', 'nvme', 'scsi'))),
    Key('port', PORT.type, PORT.help, default=True,
        when=('bus', ('virtio', 'nvme', 'scsi'))),
))
