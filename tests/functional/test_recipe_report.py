# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The recipe of the daily report, as the manual prints it, and its unit."""

import json
import re

from nyxtest.paths import ROOT
from nyxtest.recipe import RecipeCase

UNIT = ROOT / 'scripts' / 'systemd' / 'nyx-report.service'
MAILER = '#!/bin/sh\necho "$@" >{folder}/mail\ncat >>{folder}/mail\n'


class ReportTest(RecipeCase):
    recipe = 'report'
    modules = 'virtio_blk', 'virtio_net', 'nvme'

    def test_page(self):
        self.follow(*self.page.sections()[:-1])
        self.check_files()
        self.check_unit()
        self.follow(self.page.sections()[-1])
        self.assert_followed()
        self.assert_no_trouble()

    def check_files(self):
        """What the page wrote says what happened between both reports."""
        path, = (self.folder / 'daily').glob('*.json')
        report, = json.loads(path.read_text())
        self.assertEqual(report['new']['faults'], 6)
        self.assertGreaterEqual(report['new']['disk-read-bytes'], 8 << 20)
        self.assertEqual([(each['device'], each['state']) for each in
                          report['devices']], [('archive', 'quarantined')])

    def check_unit(self):
        """The command of the unit, with a mail system that keeps the mail."""
        text = re.search('^ExecStart=(.*)$', UNIT.read_text(), re.M)[1]
        mailer = self._bin / 'sendmail'
        mailer.write_text(MAILER.format(folder=self.folder))
        mailer.chmod(0o755)
        text = text.replace('$$', '$').replace('@BINDIR@', str(self._bin))
        self._environment['NYX_REPORT_MAIL'] = 'root'
        status, said = self.on_host(text)
        self.assertEqual(status, 0, said)
        daily = self.folder / 'state' / 'daily'
        self.assertEqual(sorted(path.suffix for path in daily.iterdir()),
                         ['.json', '.txt'])
        mail = (self.folder / 'mail').read_text()
        self.assertRegex(mail, r'(?s)^-oi -t\n.*To: root\n'
                         r'Subject: Nyx on \S+: report 1 warning')
        self.assertIn('archive', mail)
