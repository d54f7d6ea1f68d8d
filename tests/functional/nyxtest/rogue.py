# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A driver in the guest that has its nyx-testdev do what it must not."""

import shlex
from dataclasses import dataclass

from .guest import pci_address

STATUS = '/run/rogue'
# What nyx-dma's status says becomes a count.
SCRIPT = '''ok=0 refused=0 gone=0
while :; do
    nyx-dma {address} write {target:#x} 8 0x66 >/dev/null
    case $? in
    0) ok=$((ok + 1)) ;;
    3) refused=$((refused + 1)) ;;
    4) gone=$((gone + 1)); usleep 50000 ;;
    esac
    echo $ok $refused $gone >{status}.new && mv {status}.new {status}
done'''


@dataclass(frozen=True)
class Outcome:
    ok: int         # DMA went through
    refused: int    # it did not
    gone: int       # the device is cut off


class Rogue:
    """DMA to one forbidden address after the other, until stopped."""

    def __init__(self, vm, name, target):
        self._vm = vm
        script = SCRIPT.format(address=pci_address(vm, name), target=target,
                               status=STATUS)
        self._pid = vm.agent.check(
            f'rm -f {STATUS}; setsid sh -c {shlex.quote(script)} </dev/null '
            '>/dev/null 2>&1 & echo $!')
        vm.agent.wait(f'[ -s {STATUS} ]')

    def outcome(self):
        return Outcome(*map(int, self._vm.agent.check(
            f'cat {STATUS}').split()))

    def wait_more(self, what, seconds=120):
        """Wait until another DMA has come out like that."""
        field = list(Outcome.__dataclass_fields__).index(what) + 1
        before = getattr(self.outcome(), what)
        self._vm.agent.wait(f'[ "$(cut -d" " -f{field} {STATUS})" -gt '
                            f'{before} ]', seconds)

    def stop(self):
        """The last DMA is done when it returns; what came of them all."""
        self._vm.agent.check(
            f'kill {self._pid}; while kill -0 -{self._pid} 2>/dev/null; do '
            'usleep 20000; done')
        return self.outcome()
