/*
 * Disk load of a test guest: writes and verifies for ever, and says how it
 * goes
 *
 * nyx-load NAME PATH START-MIB SIZE-MIB
 *
 * Walks over the area of the disk in blocks of 64 KiB, past the page cache:
 * writes a block with a content that depends on disk, place and pass, reads
 * it back, compares. After every block, the file /run/load/NAME has one line
 * with the progress. SIGUSR1 starts the longest gap anew. The first line of
 * output tells where in physical memory the buffer for reading begins.
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK (64 * 1024)
#define MIB (1024 * 1024)
#define PAUSE_US 1000           /* after a block, for others to have a turn */

typedef struct Progress {
    uint64_t bytes;
    uint64_t passes;
    uint64_t mismatches;
    uint64_t errors;
    uint64_t last_ms;           /* when the latest block was verified */
    uint64_t longest_ms;
    int last_errno;
} Progress;

static volatile sig_atomic_t restart_gap;

static void on_usr1(int sig)
{
    restart_gap = 1;
}

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000ull + ts.tv_nsec / 1000000;
}

/* The same seed always gives the same block (xorshift64*). */
static void fill(uint64_t *block, uint64_t seed)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;

    for (size_t i = 0; i < BLOCK / sizeof(*block); i++) {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        block[i] = x * 0x2545f4914f6cdd1dull;
    }
}

static void publish(int fd, const Progress *p)
{
    char line[256];
    uint64_t now = now_ms();
    int len = snprintf(line, sizeof(line),
                       "now-ms %" PRIu64 " bytes %" PRIu64 " passes %" PRIu64
                       " mismatches %" PRIu64 " errors %" PRIu64
                       " gap-ms %" PRIu64 " longest-gap-ms %" PRIu64
                       " errno %d", now, p->bytes, p->passes, p->mismatches,
                       p->errors, now - p->last_ms, p->longest_ms,
                       p->last_errno);

    /* One write of fixed length: a reader never sees half a line. */
    memset(line + len, ' ', sizeof(line) - len);
    line[sizeof(line) - 1] = '\n';
    if (pwrite(fd, line, sizeof(line), 0) != sizeof(line)) {
        perror("nyx-load: status file");
        exit(1);
    }
}

static void count_success(Progress *p)
{
    uint64_t now = now_ms();

    if (restart_gap) {
        restart_gap = 0;
        p->longest_ms = 0;
    } else if (now - p->last_ms > p->longest_ms) {
        p->longest_ms = now - p->last_ms;
    }
    p->last_ms = now;
    p->bytes += 2 * BLOCK;
}

static void one_block(int fd, off_t at, uint64_t seed, uint64_t *want,
                      uint64_t *got, Progress *p)
{
    fill(want, seed);
    memset(got, 0, BLOCK);
    if (pwrite(fd, want, BLOCK, at) != BLOCK ||
        pread(fd, got, BLOCK, at) != BLOCK) {
        p->errors++;
        p->last_errno = errno;
        usleep(20000);
        return;
    }
    if (memcmp(want, got, BLOCK)) {
        p->mismatches++;
        return;
    }
    count_success(p);
}

static uint64_t hash_name(const char *name)
{
    uint64_t h = 1469598103934665603ull;

    while (*name) {
        h = (h ^ (unsigned char)*name++) * 1099511628211ull;
    }
    return h;
}

/* 0 if the kernel does not tell. The page must be present. */
static uint64_t physical_address(void *page)
{
    uint64_t entry = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY);

    if (fd < 0) {
        return 0;
    }
    if (pread(fd, &entry, sizeof(entry),
              (uintptr_t)page / 4096 * sizeof(entry)) != sizeof(entry)) {
        entry = 0;
    }
    close(fd);
    return (entry & ((1ull << 55) - 1)) * 4096;
}

int main(int argc, char **argv)
{
    Progress p = { .last_ms = now_ms() };
    struct sigaction act = { .sa_handler = on_usr1, .sa_flags = SA_RESTART };
    char status_name[256];
    uint64_t *want, *got;
    off_t first, size;
    int fd, status;

    if (argc != 5) {
        fprintf(stderr, "Usage: nyx-load NAME PATH START-MIB SIZE-MIB\n");
        return 2;
    }
    first = strtoull(argv[3], NULL, 0) * MIB;
    size = strtoull(argv[4], NULL, 0) * MIB;
    snprintf(status_name, sizeof(status_name), "/run/load/%s", argv[1]);
    status = open(status_name, O_RDWR | O_CREAT, 0644);
    fd = open(argv[2], O_RDWR | O_DIRECT);
    if (status < 0 || fd < 0) {
        fprintf(stderr, "nyx-load: %s: %s\n",
                fd < 0 ? argv[2] : status_name, strerror(errno));
        return 1;
    }
    if (posix_memalign((void **)&want, 4096, BLOCK) ||
        posix_memalign((void **)&got, 4096, BLOCK)) {
        fprintf(stderr, "nyx-load: out of memory\n");
        return 1;
    }
    memset(got, 0, BLOCK);
    printf("buffer 0x%" PRIx64 "\n", physical_address(got));
    fflush(stdout);
    sigaction(SIGUSR1, &act, NULL);

    for (;;) {
        for (off_t at = 0; at + BLOCK <= size; at += BLOCK) {
            one_block(fd, first + at, hash_name(argv[1]) ^ at ^ p.passes << 48,
                      want, got, &p);
            publish(status, &p);
            usleep(PAUSE_US);
        }
        p.passes++;
    }
}
