#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
#
# containers.job.sh NUMBER JOBS: what a container does, with /run/accelerators
# for a queue: so many jobs, each on the accelerator that is free first. A job
# moves 64 KiB of the container's own part of the pool to the accelerator and
# back, and compares. One that finds its accelerator cut off takes it out of
# the queue, and waits for another.

queue=/run/accelerators
part=$((0x10000000 + $1 * 0x100000))

# To own an accelerator is to have moved its file.
take() {
    while :; do
        for file in $queue/free/*; do
            accelerator=${file##*/}
            mv "$file" $queue/taken/ 2>/dev/null && return
        done
        usleep 10000
    done
}

left=$2
while [ "$left" -gt 0 ]; do
    take
    if nyx-dma "$accelerator" window $part 65536 >/dev/null; then
        mv $queue/taken/"$accelerator" $queue/free/
        echo "$accelerator" >>$queue/done
        left=$((left - 1))
    else
        mv $queue/taken/"$accelerator" $queue/broken/
    fi
done
