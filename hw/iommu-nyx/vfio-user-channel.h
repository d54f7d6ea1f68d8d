/*
 * Nyx IOMMU: vfio-user messages over a socket
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Whole messages come and go, and nothing ever blocks.  What comes is checked
 * for size only.  One thread.
 */

#ifndef HW_IOMMU_NYX_VFIO_USER_CHANNEL_H
#define HW_IOMMU_NYX_VFIO_USER_CHANNEL_H

#include "hw/vfio-user/protocol.h"
#include "qemu/queue.h"

#define VU_FDS_MAX  VFIO_USER_MAX_MAX_FDS
/* The most data that QEMU announces to take, and any header before it */
#define VU_SIZE_MAX (VFIO_USER_DEF_MAX_XFER + 64)

typedef struct VuMessage {
    QSIMPLEQ_ENTRY(VuMessage) next;
    int64_t queued_ns;          /* host's clock */
    int fd[VU_FDS_MAX];
    unsigned fds;
    VFIOUserHdr *hdr;           /* of hdr->size bytes, all in all */
} VuMessage;

typedef struct VuChannel {
    int fd;                     /* -1: closed */
    VuMessage *in;              /* of which @in_done bytes have come */
    size_t in_done;
    QSIMPLEQ_HEAD(, VuMessage) out;
    size_t out_done;            /* bytes of the first that have gone */
    size_t out_bytes;           /* of all in the queue */
} VuChannel;

/* @size bytes, the header's included; all zero but for the size. */
VuMessage *nyx_vu_message_new(size_t size);

/* With its descriptors. */
void nyx_vu_message_free(VuMessage *msg);
void nyx_vu_message_close_fds(VuMessage *msg);

void nyx_vu_channel_init(VuChannel *ch, int fd);
void nyx_vu_channel_close(VuChannel *ch);

/*
 * A whole message, or NULL if it has not come yet.  @broken: the other side
 * has closed the channel (NULL is returned), or why it will not be listened to.
 */
VuMessage *nyx_vu_receive(VuChannel *ch, const char **broken);

/* Send as soon as the other side takes it; the channel owns @msg now. */
void nyx_vu_send(VuChannel *ch, VuMessage *msg);

/* Go on sending what is queued.  False: the other side is gone. */
bool nyx_vu_flush(VuChannel *ch);

static inline bool nyx_vu_sending(VuChannel *ch)
{
    return !QSIMPLEQ_EMPTY(&ch->out);
}

#endif
