/*
 * Sound for a test guest: plays a known sequence of samples
 *
 * nyx-play DEVICE MILLISECONDS
 *
 * 48 kHz, stereo, 16 bits, through the OSS interface. The samples are those
 * of a counter, so that the other end can tell whether one was lost.
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/soundcard.h>
#include <unistd.h>

#define RATE 48000
#define FRAMES 480

static int set(int fd, unsigned long request, int value, const char *what)
{
    int got = value;

    if (ioctl(fd, request, &got) < 0 || got != value) {
        fprintf(stderr, "nyx-play: the device does not take %s %d\n",
                what, value);
        return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    int16_t buffer[FRAMES * 2];
    uint16_t counter = 1;
    long left;
    int fd;

    if (argc != 3) {
        fprintf(stderr, "Usage: nyx-play DEVICE MILLISECONDS\n");
        return 2;
    }
    fd = open(argv[1], O_WRONLY);
    if (fd < 0) {
        fprintf(stderr, "nyx-play: %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    if (set(fd, SNDCTL_DSP_SETFMT, AFMT_S16_LE, "format") ||
        set(fd, SNDCTL_DSP_CHANNELS, 2, "channels") ||
        set(fd, SNDCTL_DSP_SPEED, RATE, "rate")) {
        return 1;
    }
    for (left = strtol(argv[2], NULL, 0) * RATE / 1000; left > 0;
         left -= FRAMES) {
        for (int i = 0; i < FRAMES; i++) {
            buffer[2 * i] = counter;
            buffer[2 * i + 1] = ~counter;
            counter++;
        }
        if (write(fd, buffer, sizeof(buffer)) != sizeof(buffer)) {
            fprintf(stderr, "nyx-play: write: %s\n", strerror(errno));
            return 1;
        }
    }
    if (ioctl(fd, SNDCTL_DSP_SYNC, 0) < 0) {
        fprintf(stderr, "nyx-play: sync: %s\n", strerror(errno));
        return 1;
    }
    return 0;
}
