#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
#
# appliance.net.sh up|down: two bridges with a machine at each, which here is
# a network namespace: a server outside, a client inside. Run it as root.

set -e

down() {
    for place in server client; do
        ip netns del nyx-$place 2>/dev/null || true
    done
    for side in wan lan; do
        ip link del nyx-$side 2>/dev/null || true
    done
}

# side SIDE PLACE ADDRESS ROUTER
side() {
    ip link add nyx-$1 type bridge
    ip link set nyx-$1 up
    ip netns add nyx-$2
    ip link add nyx-$2 type veth peer name eth0 netns nyx-$2
    ip link set nyx-$2 master nyx-$1 up
    ip -n nyx-$2 addr add $3/24 dev eth0
    ip -n nyx-$2 link set eth0 up
    ip -n nyx-$2 route add default via $4
}

case $1 in
up)
    down
    side wan server 203.0.113.10 203.0.113.1
    side lan client 192.0.2.10 192.0.2.1
    ;;
down)
    down
    ;;
*)
    echo "appliance.net.sh: say up or down" >&2
    exit 2
    ;;
esac
