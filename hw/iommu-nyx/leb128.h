/*
 * Nyx IOMMU: numbers of any length as bytes
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * LEB128: seven bits a byte, the lowest first, the highest bit says that more
 * follow.  What is read comes from a stranger.
 */

#ifndef HW_IOMMU_NYX_LEB128_H
#define HW_IOMMU_NYX_LEB128_H

typedef struct NyxBytes {
    const uint8_t *bytes;
    size_t size;
    size_t next;
} NyxBytes;

static inline void nyx_leb128_put(GByteArray *out, uint64_t n)
{
    uint8_t bytes[10];
    unsigned used = 0;

    do {
        bytes[used++] = (n & 0x7f) | (n > 0x7f ? 0x80 : 0);
        n >>= 7;
    } while (n);
    g_byte_array_append(out, bytes, used);
}

/* False: the bytes end, or the number has more than 64 bits. */
static inline bool nyx_leb128_get(NyxBytes *in, uint64_t *n)
{
    *n = 0;
    for (unsigned shift = 0; shift < 64 && in->next < in->size; shift += 7) {
        uint64_t byte = in->bytes[in->next++];
        uint64_t bits = byte & 0x7f;

        if (bits << shift >> shift != bits) {
            return false;
        }
        *n |= bits << shift;
        if (!(byte & 0x80)) {
            return true;
        }
    }
    return false;
}

/* Signed ones: 0, -1, 1, -2, ... as 0, 1, 2, 3, ... */

static inline uint64_t nyx_zigzag(int64_t n)
{
    return ((uint64_t)n << 1) ^ (uint64_t)(n >> 63);
}

static inline int64_t nyx_unzigzag(uint64_t n)
{
    return (int64_t)(n >> 1) ^ -(int64_t)(n & 1);
}

#endif
