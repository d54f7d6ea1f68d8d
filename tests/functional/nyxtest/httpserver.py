# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""An HTTP server on the host's loopback: a file to fetch, a place to send."""

import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self._answer(self.server.content)

    def do_POST(self):
        data = self.rfile.read(int(self.headers['Content-Length']))
        self._answer(hashlib.sha256(data).hexdigest().encode())

    def _answer(self, content):
        self.send_response(200)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        try:
            self.wfile.write(content)
        except OSError:
            self.close_connection = True    # the guest went away

    def log_message(self, format, *args):
        pass


class FileServer:
    """Serves random bytes under every name; answers a POST with its SHA-256."""

    def __init__(self, size):
        content = os.urandom(size)
        self.size = size
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._server = ThreadingHTTPServer(('127.0.0.1', 0), _Handler)
        self._server.daemon_threads = True
        self._server.content = content
        self._server.handle_error = lambda *_: None
        threading.Thread(target=self._server.serve_forever,
                         daemon=True).start()

    @property
    def port(self):
        return self._server.server_address[1]

    def url(self, nic):
        """Where the guest finds the file by way of this card."""
        return f'http://{nic.host}:{self.port}/file'

    def close(self):
        self._server.shutdown()
        self._server.server_close()
