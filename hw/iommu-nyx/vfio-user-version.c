/*
 * Nyx IOMMU: a socket of its own for a vfio-user server's DMA messages
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The capability "twin_socket" of the vfio-user protocol, which QEMU's client
 * does not know: put into what it says, taken out of what it hears.
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "vfio-user-guard.h"

#define TWIN        "twin_socket"
#define SUPPORTED   "supported"
#define FD_INDEX    "fd_index"

/* What a VERSION message says of capabilities; NULL if that is no JSON. */
static QDict *capabilities(const VuMessage *msg, QDict **inner)
{
    const VFIOUserVersion *version = (const VFIOUserVersion *)msg->hdr;
    size_t size = msg->hdr->size - sizeof(*version);
    QObject *obj;
    QDict *dict;

    if (!size || version->capabilities[size - 1]) {
        return NULL;
    }
    obj = qobject_from_json(version->capabilities, NULL);
    dict = qobject_to(QDict, obj);
    if (!dict) {
        qobject_unref(obj);
        return NULL;
    }
    *inner = qdict_get_qdict(dict, VFIO_USER_CAP);
    return dict;
}

/* @msg with other capabilities; takes both. */
static VuMessage *with_capabilities(VuMessage *msg, QDict *dict)
{
    g_autoptr(GString) json = qobject_to_json(QOBJECT(dict));
    size_t size = sizeof(VFIOUserVersion) + json->len + 1;
    VuMessage *other = NULL;

    qobject_unref(dict);
    if (size <= VU_SIZE_MAX) {
        other = nyx_vu_message_new(size);
        memcpy(other->hdr, msg->hdr, sizeof(VFIOUserVersion));
        other->hdr->size = size;
        memcpy(((VFIOUserVersion *)other->hdr)->capabilities, json->str,
               json->len + 1);
    }
    nyx_vu_message_free(msg);
    return other;
}

VuMessage *nyx_vu_offer_twin(VuMessage *request)
{
    QDict *inner = NULL, *dict = capabilities(request, &inner), *twin;

    if (!inner) {
        qobject_unref(dict);
        return request;
    }
    twin = qdict_new();
    qdict_put_bool(twin, SUPPORTED, true);
    qdict_put(inner, TWIN, twin);
    return with_capabilities(request, dict);
}

static bool is_stream(int fd)
{
    int domain = 0, type = 0;
    socklen_t size = sizeof(int);

    return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) &&
           !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) &&
           domain == AF_UNIX && type == SOCK_STREAM;
}

VuMessage *nyx_vu_take_twin(VuMessage *reply, int *twin, const char **why)
{
    QDict *inner = NULL, *dict = capabilities(reply, &inner), *caps;

    *twin = -1;
    caps = inner ? qdict_get_qdict(inner, TWIN) : NULL;
    if (!caps) {
        qobject_unref(dict);
        nyx_vu_message_close_fds(reply);
        return reply;
    }
    if (qdict_get_try_bool(caps, SUPPORTED, false)) {
        /* As libvfio-user sends it; the index is that of the descriptor. */
        if (reply->fds != 1 || qdict_get_try_int(caps, FD_INDEX, -1) != 0 ||
            !is_stream(reply->fd[0])) {
            qobject_unref(dict);
            nyx_vu_message_free(reply);
            *why = "offers a twin_socket without sending it";
            return NULL;
        }
        *twin = reply->fd[0];
        reply->fds = 0;
    }
    qdict_del(inner, TWIN);
    reply = with_capabilities(reply, dict);
    *why = reply ? NULL : "has too many capabilities";
    return reply;
}
