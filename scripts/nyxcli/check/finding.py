# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What a check has found."""

from dataclasses import asdict, dataclass

SEVERITIES = 'ok', 'note', 'warning', 'error'


@dataclass(frozen=True)
class Finding:
    """One of SEVERITIES about a subject; a remedy unless it is ok."""
    severity: str
    area: str
    subject: str
    reason: str
    remedy: str = ''

    def as_dict(self):
        return asdict(self)


class Area:
    """Findings of one area: area.ok(subject, reason) and so on."""

    def __init__(self, name):
        self._name = name

    def ok(self, subject, reason):
        return Finding('ok', self._name, subject, reason)

    def note(self, subject, reason, remedy):
        return Finding('note', self._name, subject, reason, remedy)

    def warning(self, subject, reason, remedy):
        return Finding('warning', self._name, subject, reason, remedy)

    def error(self, subject, reason, remedy):
        return Finding('error', self._name, subject, reason, remedy)


def worst(findings):
    return max((finding.severity for finding in findings),
               key=SEVERITIES.index, default='ok')
