# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A Prometheus server, promtool, and what an exporter says.

Debian's package need not be installed, which would start its service: it is
unpacked below the build folder.
"""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

from .errors import GuestTimeout, NyxTestError
from .packages import Apt, unpack
from .paths import BUILD

SECONDS = 120
START_TRIES = 5


def program(name):
    """Path of prometheus or promtool: the machine's, or one fetched."""
    found = shutil.which(name)
    if found:
        return found
    folder = BUILD / 'prometheus'
    path = folder / 'usr' / 'bin' / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unpack(Apt(folder).fetch('prometheus'), folder)
    return str(path)


def promtool(*words):
    """Status and output of promtool."""
    done = subprocess.run([program('promtool'), *map(str, words)], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False, timeout=SECONDS)
    return done.returncode, done.stdout


def fetch(url, seconds=SECONDS, **headers):
    """The body of an answer with status 200, as text."""
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        return answer.read().decode()


def samples(text):
    """Samples of an exposition: {(name, ((label, value), ...)): number}."""
    # pylint: disable=import-outside-toplevel
    from prometheus_client.parser import text_string_to_metric_families
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            if key in found:
                raise NyxTestError(f'{key} is there twice')
            found[key] = sample.value
    return found


def pick(found, name, **labels):
    """Numbers of all samples of that name with (at least) these labels."""
    return [value for (sample, given), value in found.items()
            if sample == name and labels.items() <= dict(given).items()]


class Prometheus:
    """A server that scrapes one target each second; stop() it."""

    def __init__(self, folder, target, rules):
        folder.mkdir(parents=True)
        config = folder / 'prometheus.yml'
        config.write_text(json.dumps({
            'global': {'scrape_interval': '1s', 'scrape_timeout': '1s',
                       'evaluation_interval': '1s'},
            'rule_files': [str(rules)],
            'scrape_configs': [{'job_name': 'nyx', 'static_configs': [
                {'targets': [target]}]}]}))
        self._log = (folder / 'log').open('w+')
        for _ in range(START_TRIES):
            self._start(folder, config)
            try:
                self.await_true('the server is ready', self._ready)
                return
            except NyxTestError:
                ended = self._process.poll() is not None
                self._process.kill()
                self._process.wait()
                if not ended:       # nobody else took the port
                    break
        raise NyxTestError(f'Prometheus did not start: {self._said()[-500:]}')

    def _start(self, folder, config):
        with socket.socket() as sock:
            sock.bind(('127.0.0.1', 0))
            where = '{}:{}'.format(*sock.getsockname())
        self.url = f'http://{where}'
        self._process = subprocess.Popen(
            [program('prometheus'), f'--config.file={config}',
             f'--storage.tsdb.path={folder / "data"}',
             f'--web.listen-address={where}'],
            stdin=subprocess.DEVNULL, stdout=self._log,
            stderr=subprocess.STDOUT, cwd=folder)

    def _said(self):
        self._log.seek(0)
        return self._log.read()

    def _ready(self):
        try:
            return fetch(f'{self.url}/-/ready')
        except (urllib.error.URLError, OSError):
            return None

    def await_true(self, what, look):
        """Wait until look() gives something; that."""
        limit = time.monotonic() + SECONDS
        while True:
            seen = look()
            if seen:
                return seen
            if self._process.poll() is not None or time.monotonic() > limit:
                raise GuestTimeout(f'Prometheus: not true that {what}; it '
                                   f'said last: {self._said()[-500:]}')
            time.sleep(0.1)

    def ask(self, path, **arguments):
        """The data of an answer of its API."""
        words = urllib.parse.urlencode(arguments)
        answer = json.loads(fetch(f'{self.url}/api/v1/{path}?{words}'))
        if answer['status'] != 'success':
            raise NyxTestError(f'{path} {arguments}: {answer}')
        return answer['data']

    def query(self, expression):
        """The result of an instant query."""
        return self.ask('query', query=expression)['result']

    def number(self, expression):
        """The only number of a result; None if it is empty."""
        result = self.query(expression)
        return float(result[0]['value'][1]) if result else None

    def firing(self):
        """Names of alerts that fire, with their labels."""
        return {alert['labels']['alertname']: alert['labels']
                for alert in self.ask('alerts')['alerts']
                if alert['state'] == 'firing'}

    def stop(self):
        self._process.terminate()
        self._process.wait(SECONDS)
        self._log.close()
