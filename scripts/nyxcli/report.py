# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx report: the health of VMs, with what is new since the last report."""

import json
import platform
import time
from pathlib import Path

from . import health
from .errors import NyxError
from .faults import TITLES as FAULT_TITLES
from .faults import row as fault_row
from .figures import NAMES, hit_rate
from .mail import send
from .options import command
from .output import print_json, table
from .rundir import running
from .units import bytes_text
from .vm import connect


def _when(seconds):
    return time.strftime('%Y-%m-%d %H:%M:%S %Z', time.localtime(seconds))


def _since(report):
    if report['last-time'] is None:
        return 'This is its first report.'
    if report['restarted']:
        return 'It was started anew since the last report, of ' \
               f'{_when(report["last-time"])}.'
    hours = (report['time'] - report['last-time']) / 3600
    return f'The last report is of {_when(report["last-time"])}, ' \
           f'{hours:.1f} hours ago.'


def _figure(name, value):
    return bytes_text(value) if name.endswith('-bytes') else value


def _counters(report):
    rows = [(NAMES[name], _figure(name, report['new'][name]),
             _figure(name, total))
            for name, total in report['totals'].items()]
    rates = [hit_rate(report[when]) for when in ('new', 'totals')]
    if rates[1] is not None:
        rows.append(('IOTLB hit rate', *('-' if rate is None else
                                         f'{rate:.1f} %' for rate in rates)))
    return table(('FIGURE', 'NEW', 'ALL'), rows)


def _vm_text(report):
    """Paragraphs about one VM."""
    parts = [f'{report["vm"]}: {report["summary"]}']
    if 'totals' not in report:
        return parts
    parts += [f'It is {report["status"]}, with '
              f'{bytes_text(report["memory-bytes"])} of memory. '
              f'{_since(report)}', _counters(report)]
    if report['devices']:
        parts.append(table(
            ('DEVICE', 'DOMAIN', 'STATE', 'NEW FAULTS', 'ALL', 'RECOVERIES'),
            [(each['device'], each['domain'], each['state'],
              each['new-faults'], each['total-faults'], each['recoveries'])
             for each in report['devices']]))
    if report['findings']:
        parts.append(table(
            ('SEVERITY', 'SUBJECT', 'REASON', 'REMEDY'),
            [(each['severity'], each['subject'], each['reason'],
              each['remedy']) for each in report['findings']]))
    if report['latest-faults']:
        parts.append(table(FAULT_TITLES, [fault_row(fault) for fault in
                                          report['latest-faults']]))
    return parts


def _text(reports):
    parts = [f'Nyx on {platform.node()}, {_when(time.time())}']
    if not reports:
        parts.append('No VM is running.')
    for report in reports:
        parts += _vm_text(report)
    return '\n\n'.join(parts) + '\n'


def _collect(names):
    reports = []
    for name in names:
        try:
            with connect(name) as vm:
                reports.append(health.report(vm))
        except NyxError as err:
            reports.append(health.trouble(name, err))
    return reports


def _subject(reports):
    worst = [f'{report["vm"]} {report["summary"]}' for report in reports
             if report['verdict'] in ('warning', 'error')
             and 'totals' in report]
    worst += [f'{report["vm"]} does not answer' for report in reports
              if 'totals' not in report]
    return f'Nyx on {platform.node()}: ' + ('; '.join(worst) if worst else
                                            f'{len(reports)} VMs are well')


def _write(folder, reports, text):
    """Both forms, under the present time."""
    stamp = time.strftime('%Y%m%d-%H%M%S')
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f'report-{stamp}.json').write_text(
            json.dumps(reports, indent=2) + '\n', encoding='utf-8')
        (folder / f'report-{stamp}.txt').write_text(text, encoding='utf-8')
    except OSError as err:
        raise NyxError(f'{folder} cannot be written '
                       f'({err.strerror.lower()}); name another directory '
                       'with --directory.') from err


def _run(options):
    reports = _collect(options.vms or running())
    text = _text(reports)
    if options.json:
        print_json(reports)
    else:
        print(text, end='')
    if options.directory:
        _write(options.directory, reports, text)
    if not options.peek:
        for report in reports:
            if 'totals' in report:
                health.keep(report)
    if options.mail:
        send(options.mail, _subject(reports), text)
    return int(any(report['status'] == 'not answering'
                   for report in reports))


def add(commands):
    """Add the subcommand."""
    parser = command(
        commands, 'report', _run, 'report the health of VMs',
        'Figures with what is new since the last report, devices in trouble, '
        'what "nyx check" warns of, and the latest faults; for cron, or the '
        'systemd timer nyx-report.timer. The exit status is 1 if a VM does '
        'not answer.')
    parser.add_argument('vms', metavar='VM', nargs='*',
                        help='only these (default: all that run)')
    parser.add_argument('--directory', metavar='DIR', type=Path,
                        help='also write report-DATE.json and .txt there')
    parser.add_argument('--mail', metavar='ADDRESS',
                        help='also mail it, by sendmail')
    parser.add_argument('--peek', action='store_true',
                        help='do not let it be the last report for the next '
                        'one')
