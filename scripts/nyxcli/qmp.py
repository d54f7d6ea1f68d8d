# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A monitor behind a Unix socket, without threads."""

import asyncio
import socket
import struct

from .errors import Gone, NyxError, Refused

CONNECT_SECONDS = 20


def _connected(path):
    """A socket; QEMU may still be busy with the client before us.

    asyncio takes a full queue of a Unix socket for a connection, so the
    kernel is told to wait.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO,
                        struct.pack('ll', CONNECT_SECONDS, 0))
        sock.connect(str(path))
    except BlockingIOError:
        sock.close()
        raise asyncio.TimeoutError from None
    except OSError:
        sock.close()
        raise
    return sock


class QmpMonitor:
    """What vm.Vm asks of a monitor."""

    def __init__(self, name, path):
        # pylint: disable=import-outside-toplevel
        from qemu.qmp import QMPClient
        self.name = name
        self._event = self._end = None      # tasks of event()
        self._client = QMPClient('nyx')
        self._client.logger.setLevel('CRITICAL')
        self._loop = asyncio.new_event_loop()
        try:
            self._connect(path)
        except NyxError:
            self.close()
            raise

    def _connect(self, path):
        # pylint: disable=import-outside-toplevel
        from qemu.qmp import QMPError
        try:
            self._run(self._client.connect(_connected(path)),
                      CONNECT_SECONDS)
        except asyncio.TimeoutError:
            raise NyxError(
                f'{self.name} has not answered on {path} for '
                f'{CONNECT_SECONDS} s; another program keeps that socket '
                'busy, or QEMU hangs.') from None
        # qemu.qmp asserts that nobody ends just when it has answered.
        except (QMPError, OSError, EOFError, AssertionError) as err:
            cause = err
            while cause.__cause__ or cause.__context__:
                cause = cause.__cause__ or cause.__context__
            why = getattr(cause, 'strerror', None) or str(cause) or \
                'the connection was closed'
            raise Gone(f'{self.name} does not answer on {path}: '
                       f'{why.lower()}.') from err

    def _run(self, coroutine, seconds):
        return self._loop.run_until_complete(
            asyncio.wait_for(coroutine, seconds))

    def execute(self, command, arguments, seconds):
        # pylint: disable=import-outside-toplevel
        from qemu.qmp import ExecuteError, QMPError
        try:
            return self._run(self._client.execute(command, arguments),
                             seconds)
        except ExecuteError as err:
            raise Refused(self.name, command, err.error_class,
                          str(err)) from None
        except asyncio.TimeoutError:
            raise NyxError(f'{self.name} did not answer {command} within '
                           f'{seconds:g} s; it goes on with it, or '
                           'hangs.') from None
        except (QMPError, OSError, EOFError) as err:
            raise Gone(f'{self.name} ended before it answered {command}; '
                       'see its log.') from err

    async def _ended(self):
        # pylint: disable=import-outside-toplevel
        from qemu.qmp import Runstate
        while self._client.runstate == Runstate.RUNNING:
            await self._client.runstate_changed()

    async def _wait_event(self, seconds):
        """True if an event came or the connection ended."""
        # Both wait from one call to the next: a wait that is cancelled just
        # when an event comes would lose it.
        if self._event is None:
            self._event = asyncio.ensure_future(self._client.events.get())
        if self._end is None:
            self._end = asyncio.ensure_future(self._ended())
        done, _ = await asyncio.wait({self._event, self._end}, timeout=seconds,
                                     return_when=asyncio.FIRST_COMPLETED)
        return bool(done)

    def event(self, seconds):
        """The next event since the connection was made, or None in time."""
        if not self._loop.run_until_complete(self._wait_event(seconds)):
            return None
        if not self._event.done():
            raise Gone(f'{self.name} has ended.')
        event, self._event = self._event.result(), None
        return dict(event)

    async def _stop_waiting(self):
        tasks = [task for task in (self._event, self._end) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def close(self):
        # pylint: disable=import-outside-toplevel
        from qemu.qmp import QMPError
        if self._loop.is_closed():
            return
        self._loop.run_until_complete(self._stop_waiting())
        try:
            self._run(self._client.disconnect(), CONNECT_SECONDS)
        except (QMPError, OSError, EOFError, asyncio.TimeoutError):
            pass                    # it is gone already
        self._loop.close()
