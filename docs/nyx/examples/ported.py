#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Start a VM, listen to it, act on it, end it: what a builder API would do."""

import asyncio
import json
import os
import subprocess
import sys

from qemu.qmp import QMPClient, QMPError

NYX = os.environ.get('NYX', 'nyx')
RUN_DIR = os.environ.get('NYX_RUN_DIR', '/run/nyx')


def nyx(*words):
    """A command of the tool; its JSON, if it prints any."""
    wanted = '--json' in words
    done = subprocess.run([NYX, *words], check=True, text=True,
                          stdout=subprocess.PIPE if wanted else None)
    return json.loads(done.stdout) if wanted else None


async def supervise(name):
    """Recover each device that goes past its limit; ends after the first."""
    qmp = QMPClient(name)
    await qmp.connect(f'{RUN_DIR}/{name}/qmp.sock')
    # A drill, so that something happens.
    await qmp.execute('nyx-inject-fault', {'device': 'front', 'address': 4096,
                                           'access': 'w', 'count': 4})
    async for event in qmp.events:
        print(event['event'], event['data'], flush=True)
        if event['event'] == 'NYX_LIMIT_ACTION':
            device = event['data']['device']
            await qmp.execute('nyx-recover-device', {'device': device})
            break
    await qmp.disconnect()


def main():
    spec, *more = sys.argv[1:]
    try:
        nyx('run', '--detach', spec, *more)
        name = nyx('status', 'ported', '--json')['vm']
        asyncio.run(supervise(name))
        states = {device['device']: device['state']
                  for device in nyx('devices', name, '--json')}
        print('front is', states['front'], flush=True)
        nyx('stop', name, '--now')
    except subprocess.CalledProcessError as err:
        sys.exit(err.returncode)        # the tool has said why
    except QMPError as err:
        sys.exit(f'ported: {err}')


if __name__ == '__main__':
    main()
