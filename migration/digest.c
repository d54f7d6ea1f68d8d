/*
 * Nyx: digest of the IOMMU's state
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "digest.h"
#include "crypto/hash.h"
#include "io/channel-buffer.h"
#include "migration/qemu-file.h"
#include "qapi/error.h"

void nyx_digest_bytes(const void *bytes, size_t size, NyxDigest *digest)
{
    uint8_t *result = digest->bytes;
    size_t length = sizeof(digest->bytes);

    qcrypto_hash_bytes(QCRYPTO_HASH_ALGO_SHA256, bytes, size, &result, &length,
                       &error_abort);
}

/* Nothing of this can fail: it is written to memory. */
static void hash_state(const VMStateDescription *vmsd, void *state,
                       NyxDigest *digest)
{
    QIOChannelBuffer *buffer = qio_channel_buffer_new(4096);
    QEMUFile *f = qemu_file_new_output(QIO_CHANNEL(buffer));

    vmstate_save_vmsd(f, vmsd, state, NULL, &error_abort);
    qemu_fflush(f);
    nyx_digest_bytes(buffer->data, buffer->usage, digest);
    qemu_fclose(f);
    object_unref(OBJECT(buffer));
}

void nyx_digest_iommu(NyxSavedIommu *saved, NyxDigest *digest)
{
    hash_state(&nyx_vmstate_saved_iommu, saved, digest);
}

void nyx_digest_functions(NyxSavedFunctions *saved, NyxDigest *digest)
{
    hash_state(&nyx_vmstate_saved_functions, saved, digest);
}

void nyx_digest_join(const NyxDigest *iommu, const NyxDigest *functions,
                     NyxDigest *joined)
{
    NyxDigest both[] = { *iommu, *functions };

    nyx_digest_bytes(both, sizeof(both), joined);
}

char *nyx_digest_text(const NyxDigest *digest)
{
    GString *text = g_string_new(NULL);

    for (size_t i = 0; i < sizeof(digest->bytes); i++) {
        g_string_append_printf(text, "%02x", digest->bytes[i]);
    }
    return g_string_free(text, false);
}
