# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The live view of nyx top, on a terminal."""

import contextlib
import select
import sys
import time

from ..errors import NyxError
from ..output import rich_table


def _screen(head, tables):
    # pylint: disable=import-outside-toplevel
    from rich.console import Group
    from rich.text import Text
    text = Text('\n'.join(head))
    text.highlight_regex(r'^.*:', 'bold')
    text.highlight_regex(r'bottleneck(?!.*: none seen).*', 'bold red')
    return Group(text, *(part for each in tables
                         for part in (Text(), rich_table(*each))), Text(),
                 Text('q or Ctrl-C ends.', 'dim'))


@contextlib.contextmanager
def _keys():
    """Keys come as they are pressed, without being shown."""
    # pylint: disable=import-outside-toplevel
    import termios
    import tty
    if not sys.stdin.isatty():
        yield False
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _pause(interval, keys):
    """True if q was pressed meanwhile."""
    if not keys:
        time.sleep(interval)
        return False
    ready = select.select([sys.stdin], [], [], interval)[0]
    return bool(ready) and sys.stdin.read(1) in 'qQ'


def live(source, interval, everything):
    """Until q is pressed or, with One, the VM is gone."""
    try:
        # pylint: disable=import-outside-toplevel
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        raise NyxError('the live view needs the Debian package python3-rich; '
                       'install it, or use --once.') from None
    with _keys() as keys, Live(console=Console(), screen=True,
                               auto_refresh=False) as view:
        # A short first interval, so that there is something to see.
        if _pause(min(1, interval), keys):
            return
        while True:
            view.update(_screen(*source.show(source.look(), everything)),
                        refresh=True)
            if _pause(interval, keys):
                return
