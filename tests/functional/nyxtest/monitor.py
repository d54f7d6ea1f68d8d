# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A QMP connection: commands in order, events kept and awaited."""

import asyncio
import threading
import time
from concurrent.futures import TimeoutError as FutureTimeout

from qemu.qmp import QMPClient, QMPError
from qemu.qmp.qmp_client import ExecuteError

from .errors import GuestDied, GuestTimeout

COMMAND_SECONDS = 60


class Monitor:
    """QMP over a connected socket.

    Events are kept for the life of the connection, so that one that came
    early is not missed: take a position() before what causes an event, and
    wait from there. A refused command raises ExecuteError.
    """

    def __init__(self, sock):
        self.events = []
        self.on_event = None        # called in the reader's thread
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever,
                                        name='qmp', daemon=True)
        self._thread.start()
        self._client = None
        self._reader = None
        try:
            self._await(self._connect(sock), COMMAND_SECONDS)
        except QMPError as err:
            self._end_loop()
            raise GuestDied('QEMU ended at once.') from err

    async def _connect(self, sock):
        self._client = QMPClient('nyxtest')
        self._client.logger.setLevel('CRITICAL')
        await self._client.connect(sock)
        self._reader = asyncio.create_task(self._read_events())

    async def _read_events(self):
        async for event in self._client.events:
            event = dict(event, received=time.monotonic())
            with self._changed:
                self.events.append(event)
                self._changed.notify_all()
            if self.on_event:
                self.on_event(event)

    def _await(self, coroutine, seconds):
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(seconds)
        except FutureTimeout:
            future.cancel()
            raise GuestTimeout(
                f'QEMU did not answer a QMP command within {seconds} s.') \
                from None

    def command(self, name, **arguments):
        """Run a command; an underscore in an argument stands for a dash."""
        arguments = {key.replace('_', '-'): value
                     for key, value in arguments.items() if value is not None}
        try:
            return self._await(self._client.execute(name, arguments),
                               COMMAND_SECONDS)
        except ExecuteError:
            raise
        except QMPError as err:
            raise GuestDied(f'QEMU ended during {name}: {err}') from err

    def position(self):
        """The present end of the events, to wait from."""
        with self._changed:
            return len(self.events)

    def seen(self, name, since=0, **data):
        """Events of this name with this data, from a position on."""
        with self._changed:
            return [e for e in self.events[since:] if e['event'] == name and
                    all(e.get('data', {}).get(key) == value
                        for key, value in data.items())]

    def wait_event(self, name, since=0, seconds=30, **data):
        """The first such event from a position on, awaited if need be."""
        limit = time.monotonic() + seconds
        while True:
            found = self.seen(name, since, **data)
            if found:
                return found[0]
            left = limit - time.monotonic()
            if left <= 0:
                raise GuestTimeout(f'no event {name} {data} came within '
                                   f'{seconds} s.')
            with self._changed:
                self._changed.wait(min(left, 0.2))

    async def _disconnect(self):
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._client.disconnect()

    def close(self):
        try:
            self._await(self._disconnect(), 10)
        except (QMPError, GuestTimeout, EOFError, OSError):
            pass                    # QEMU is gone already
        self._end_loop()

    def _end_loop(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
