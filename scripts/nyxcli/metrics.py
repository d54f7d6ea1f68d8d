# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx metrics: an exporter for Prometheus."""

import argparse
import importlib.util
import re
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from . import virsh
from .bottleneck import find
from .errors import NyxError
from .output import print_json
from .rundir import running
from .sampling import Watch

DEFAULT_LISTEN = '127.0.0.1:9955'
# Prometheus waits 10 s if nobody tells it otherwise.
SCRAPE_SECONDS = 10
MARGIN_SECONDS = 0.5
INDEX = b"""<!DOCTYPE html>
<title>nyx metrics</title>
<h1>nyx metrics</h1>
<p><a href="/metrics">Metrics</a></p>
"""


class Exporter:
    """names: VMs to watch; without any, those that run at each scrape."""

    def __init__(self, names=(), libvirt=False):
        self._names = names
        self._libvirt = libvirt
        self._watches = {}
        self._lock = threading.Lock()   # one scrape at a time

    def _present(self):
        if self._names:
            return list(self._names)
        return [*running(), *(virsh.domains() if self._libvirt else ())]

    def collect(self, seconds=SCRAPE_SECONDS):
        """Families of all VMs, after at most so many seconds."""
        # pylint: disable=import-outside-toplevel
        from .metrics_export import Families
        out = Families()
        with self._lock:
            limit = time.monotonic() + seconds
            present = self._present()
            self._watches = {name: self._watches.get(name) or Watch(name)
                             for name in present}
            for watch in self._watches.values():
                watch.start(seconds)
            for name, watch in self._watches.items():
                well = watch.wait(limit - time.monotonic()) and \
                    _export(out, watch)
                out.add('gauge', 'up', 'Whether the VM answered', int(well),
                        vm=name)
                watch.complain()
        return out


def _export(out, watch):
    """Whether its figures are such as we know."""
    # pylint: disable=import-outside-toplevel
    from .metrics_export import export, export_bottlenecks
    try:
        export(out, watch.name, watch.figures)
        if watch.before:
            export_bottlenecks(out, watch.name,
                               find(watch.before, watch.figures))
    except (KeyError, IndexError, TypeError) as err:
        watch.error = f'{watch.name} gave figures that this tool does not ' \
            f'understand ({err!r}); use the one that came with its QEMU.'
        return False
    out.add('gauge', 'scrape_seconds', 'How long its answers took',
            watch.took, vm=watch.name)
    return True


class _OneScrape:
    """What prometheus_client calls a registry."""

    def __init__(self, families):
        self._families = families

    def collect(self):
        return self._families


class Handler(BaseHTTPRequestHandler):
    """GET /metrics, and a page that leads there."""

    exporter = None
    server_version = 'nyx-metrics'
    timeout = 30                # seconds for a client to say what it wants

    def _answer(self, status, kind, body):
        self.send_response(status)
        self.send_header('Content-Type', kind)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _seconds(self):
        """How long Prometheus waits, less what we need ourselves."""
        try:
            allowed = float(self.headers.get(
                'X-Prometheus-Scrape-Timeout-Seconds', SCRAPE_SECONDS))
        except ValueError:
            allowed = SCRAPE_SECONDS
        return max(allowed - MARGIN_SECONDS, MARGIN_SECONDS)

    def _metrics(self):
        # pylint: disable=import-outside-toplevel
        from prometheus_client.exposition import choose_encoder
        encode, kind = choose_encoder(self.headers.get('Accept', ''))
        families = self.exporter.collect(self._seconds())
        self._answer(200, kind, encode(_OneScrape(families)))

    def do_GET(self):
        """Called by the server."""
        path = self.path.partition('?')[0]
        if path == '/metrics':
            self._metrics()
        elif path == '/':
            self._answer(200, 'text/html; charset=utf-8', INDEX)
        else:
            self._answer(404, 'text/plain; charset=utf-8',
                         b'Metrics are at /metrics.\n')

    def log_message(self, *_):
        """Scrapes come all the time; that they do is no news."""


def address(text):
    """ADDR:PORT, [ADDR6]:PORT or :PORT of the command line."""
    match = re.fullmatch(r'(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]*)):(\d{1,5})',
                         text)
    if not match or int(match.group(3)) > 65535:
        raise argparse.ArgumentTypeError(
            f'"{text}" is no address and port; write it like '
            f'{DEFAULT_LISTEN}, :9955 or [::1]:9955')
    return match.group(1) or match.group(2) or '', int(match.group(3))


class Server(ThreadingHTTPServer):
    """IPv4 or IPv6, by the look of the address."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, where, handler):
        if ':' in where[0]:
            self.address_family = socket.AF_INET6
        super().__init__(where, handler)


def _need_client():
    if importlib.util.find_spec('prometheus_client') is None:
        raise NyxError('the Python module prometheus_client is missing; '
                       'install the package python3-prometheus-client.')


def serve(where, exporter):
    """A server that is bound, with its port; serve_forever() does the rest."""
    handler = type('Handler', (Handler,), {'exporter': exporter})
    try:
        return Server(where, handler)
    except OSError as err:
        raise NyxError(f'cannot listen on {where[0] or "*"}:{where[1]}: '
                       f'{err.strerror or err}; choose another address with '
                       '--listen.') from None


def _once(exporter, as_json):
    # pylint: disable=import-outside-toplevel
    from prometheus_client.exposition import generate_latest
    if as_json:
        print_json([{'name': sample.name, 'labels': sample.labels,
                     'value': sample.value}
                    for family in exporter.collect()
                    for sample in family.samples])
        return
    print(generate_latest(_OneScrape(exporter.collect())).decode(), end='')


def _run(options):
    if options.json and not options.once:
        raise NyxError('--json goes with --once; Prometheus takes text.')
    _need_client()
    exporter = Exporter(options.vms, options.libvirt)
    if options.once:
        _once(exporter, options.json)
        return
    with serve(options.listen, exporter) as server:
        host, port = server.server_address[:2]
        shown = f'[{host}]' if ':' in host else host
        print(f'nyx: metrics at http://{shown}:{port}/metrics',
              file=sys.stderr, flush=True)
        server.serve_forever()


def add(commands):
    """Add the subcommand."""
    parser = commands.add_parser(
        'metrics', help='give figures of VMs to Prometheus',
        description='Give figures of VMs to Prometheus, until it is '
        'interrupted.')
    parser.add_argument('vms', metavar='VM', nargs='*',
                        help='name of a VM or libvirt domain, or path of a '
                        'QMP socket (default: all VMs below the run directory '
                        'that run at the time of a scrape)')
    parser.add_argument('--listen', metavar='ADDR:PORT', type=address,
                        default=address(DEFAULT_LISTEN),
                        help=f'where to listen (default: {DEFAULT_LISTEN}); '
                        'there is no password, so leave it to this host or to '
                        'a network of your own')
    parser.add_argument('--libvirt', action='store_true',
                        help="watch also libvirt's running domains")
    parser.add_argument('--once', action='store_true',
                        help='print the figures once, and end')
    parser.add_argument('--json', action='store_true',
                        help='with --once: print JSON')
    parser.set_defaults(run=_run)
