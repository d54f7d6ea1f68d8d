/*
 * filter-nyx-count: counts the packets of a network backend
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A netfilter that lets all pass.  It hangs on the backend, so what the backend
 * sends (TX) is what the guest receives.  A filter of QEMU has one queue: for
 * a backend of several, the object has children, one for each further queue.
 *
 * Locking: BQL.
 */

#include "qemu/osdep.h"
#include "net/filter.h"
#include "net/net.h"
#include "net/vhost_net.h"
#include "nyx/include/net/nyx-count.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-nyx-metrics.h"
#include "qemu/iov.h"
#include "qemu/module.h"
#include "qom/object_interfaces.h"

#define TYPE_NYX_COUNT "filter-nyx-count"
OBJECT_DECLARE_TYPE(NyxCount, NyxCountClass, NYX_COUNT)

#define QUEUE_NAME "queue[%" PRIu32 "]"     /* of a child */

struct NyxCountClass {
    NetFilterClass parent_class;

    void (*parent_complete)(UserCreatable *uc, Error **errp);
};

struct NyxCount {
    NetFilterState parent_obj;

    uint32_t queue;
    NyxNetCounters received;    /* by the guest */
    NyxNetCounters sent;
};

static ssize_t nyx_count_receive(NetFilterState *nf, NetClientState *sender,
                                 unsigned flags, const struct iovec *iov,
                                 int iovcnt, NetPacketSent *sent_cb)
{
    NyxCount *count = NYX_COUNT(nf);
    NyxNetCounters *c = sender == nf->netdev ? &count->received : &count->sent;
    size_t size = iov_size(iov, iovcnt);

    if (!(flags & QEMU_NET_PACKET_FLAG_RAW)) {
        size -= MIN(size, (size_t)qemu_get_vnet_hdr_len(nf->netdev));
    }
    c->packets++;
    c->bytes += size;
    return 0;
}

static void drop_at(NetClientState *netdev, bool to_guest)
{
    NetFilterState *nf;

    QTAILQ_FOREACH(nf, &netdev->filters, next) {
        NyxCount *count =
            (NyxCount *)object_dynamic_cast(OBJECT(nf), TYPE_NYX_COUNT);

        if (count && nf->on) {
            NyxNetCounters *c = to_guest ? &count->received : &count->sent;

            c->drops++;
        }
    }
}

void nyx_net_drop(NetClientState *sender)
{
    if (sender) {
        drop_at(sender, true);
    }
    if (sender && sender->peer) {
        drop_at(sender->peer, false);
    }
}

/* Creation */

static void nyx_count_join(NetFilterState *nf, NetClientState *netdev)
{
    nf->netdev = netdev;
    QTAILQ_INSERT_TAIL(&netdev->filters, nf, next);
}

static void join_queues(NyxCount *first, NetClientState **ncs, int queues)
{
    nyx_count_join(NETFILTER(first), ncs[0]);
    for (uint32_t i = 1; i < queues; i++) {
        g_autofree char *name = g_strdup_printf(QUEUE_NAME, i);
        Object *child = object_new(TYPE_NYX_COUNT);

        NYX_COUNT(child)->queue = i;
        NETFILTER(child)->netdev_id = g_strdup(NETFILTER(first)->netdev_id);
        NETFILTER(child)->on = NETFILTER(first)->on;
        object_property_add_child(OBJECT(first), name, child);
        object_unref(child);
        nyx_count_join(NETFILTER(child), ncs[i]);
    }
}

static void nyx_count_complete(UserCreatable *uc, Error **errp)
{
    NetFilterState *nf = NETFILTER(uc);
    NetClientState *ncs[MAX_QUEUE_NUM];
    int queues = 0;

    if (nf->netdev_id) {
        queues = qemu_find_net_clients_except(nf->netdev_id, ncs,
                                              NET_CLIENT_DRIVER_NIC,
                                              MAX_QUEUE_NUM);
    }
    if (queues > 0 && get_vhost_net(ncs[0])) {
        error_setg(errp, "packets of '%s' do not pass through QEMU but through "
                   "vhost; count them at the host's network interface, or set "
                   "vhost=off", nf->netdev_id);
    } else if (queues > 1 && strcmp(nf->position, "tail")) {
        error_setg(errp, "'%s' has several queues; leave out 'position'",
                   nf->netdev_id);
    } else if (queues > 1) {
        join_queues(NYX_COUNT(uc), ncs, queues);
    } else {
        NYX_COUNT_GET_CLASS(uc)->parent_complete(uc, errp);
    }
}

/* Of its queues from 1 on; NULL when there are no more */
static NyxCount *nyx_count_queue(NyxCount *count, uint32_t queue)
{
    g_autofree char *name = g_strdup_printf(QUEUE_NAME, queue);
    Object *child = object_resolve_path_component(OBJECT(count), name);

    return child ? NYX_COUNT(child) : NULL;
}

static void nyx_count_status_changed(NetFilterState *nf, Error **errp)
{
    NyxCount *child;

    for (uint32_t i = 1; (child = nyx_count_queue(NYX_COUNT(nf), i)); i++) {
        NETFILTER(child)->on = nf->on;
    }
}

static void nyx_count_class_init(ObjectClass *oc, const void *data)
{
    NetFilterClass *nfc = NETFILTER_CLASS(oc);
    UserCreatableClass *ucc = USER_CREATABLE_CLASS(oc);

    NYX_COUNT_CLASS(oc)->parent_complete = ucc->complete;
    ucc->complete = nyx_count_complete;
    nfc->receive_iov = nyx_count_receive;
    nfc->status_changed = nyx_count_status_changed;
}

static const TypeInfo nyx_count_info = {
    .name = TYPE_NYX_COUNT,
    .parent = TYPE_NETFILTER,
    .class_size = sizeof(NyxCountClass),
    .class_init = nyx_count_class_init,
    .instance_size = sizeof(NyxCount),
};

static void nyx_count_register_types(void)
{
    type_register_static(&nyx_count_info);
}

type_init(nyx_count_register_types)

/* Query */

/* @id: of the object that the user created */
static void query_queue(NyxCount *count, const char *id, NyxNetInfoList ***tail)
{
    NetFilterState *nf = NETFILTER(count);
    NyxNetInfo *info = g_new0(NyxNetInfo, 1);

    info->id = g_strdup(id);
    info->netdev = g_strdup(nf->netdev_id);
    info->device = nf->netdev->peer ? g_strdup(nf->netdev->peer->name) : NULL;
    info->queue = count->queue;
    info->received = g_memdup2(&count->received, sizeof(count->received));
    info->sent = g_memdup2(&count->sent, sizeof(count->sent));
    QAPI_LIST_APPEND(*tail, info);
}

static int query_object(Object *obj, void *opaque)
{
    NyxCount *count = (NyxCount *)object_dynamic_cast(obj, TYPE_NYX_COUNT);
    const char *id = object_get_canonical_path_component(obj);

    if (!count || !NETFILTER(count)->netdev) {
        return 0;
    }
    query_queue(count, id, opaque);
    for (uint32_t i = 1; nyx_count_queue(count, i); i++) {
        query_queue(nyx_count_queue(count, i), id, opaque);
    }
    return 0;
}

NyxNetInfoList *qmp_query_nyx_net(Error **errp)
{
    NyxNetInfoList *list = NULL, **tail = &list;

    object_child_foreach(object_get_objects_root(), query_object, &tail);
    return list;
}
