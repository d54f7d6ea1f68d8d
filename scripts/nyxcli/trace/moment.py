# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What happened when, and the spans between."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Moment:
    """kind: event (its name is the subject), added, removed, placed (all BARs
    have addresses), interrupt (the first message of a device)."""
    time: float                 # seconds of the host's clock since 1970
    kind: str
    subject: str
    data: dict = field(default_factory=dict)

    def is_event(self, *names):
        return self.kind == 'event' and self.subject in names


@dataclass(frozen=True)
class Span:
    """What took from start to end."""
    name: str
    start: float
    end: float
    device: str = ''

    def as_dict(self, zero):
        found = {'name': self.name, 'start': round(self.start - zero, 6),
                 'seconds': round(self.end - self.start, 6)}
        return {**found, 'device': self.device} if self.device else found
