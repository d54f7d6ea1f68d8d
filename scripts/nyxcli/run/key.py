# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What the schema is made of: sections with keys."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Key:
    """One key: from this come checks, the manual, QEMU's and libvirt's words.

    option is "TARGET:PROPERTY": the value goes, as it is, to that property of
    the QEMU object that the section makes (machine, device, net, ...); the
    default is then QEMU's own.
    xml is "PATH@ATTRIBUTE" or "PATH" below the element of libvirt.
    when = (KEY, VALUES): the key is refused unless KEY has one of VALUES.
    """

    name: str
    type: object
    help: str
    default: object = None
    required: bool = False
    option: str = None
    xml: str = None
    when: tuple = None
    default_text: str = None    # for the manual, where the code chooses

    def applies(self, values):
        """Whether the other keys of the section let this one be there."""
        return not self.when or values.get(self.when[0]) in self.when[1]


@dataclass(frozen=True)
class Section:
    """A table of TOML, [name], or with many [[name]].

    shorthand: the key that "name = value" stands for.
    """

    name: str
    help: str
    keys: tuple
    many: bool = False
    shorthand: str = None
    by_name: dict = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, 'by_name', {k.name: k for k in self.keys})

    @property
    def header(self):
        return f'[[{self.name}]]' if self.many else f'[{self.name}]'


def properties(section, values, target):
    """What the values of a section say to the QEMU object called target.

    Defaults are QEMU's own, and left out.
    """
    found = {}
    for key in section.keys:
        where, _, name = (key.option or '').partition(':')
        value = values.get(key.name)
        if where == target and value is not None and \
                value != key.default and key.applies(values):
            found[name] = value
    return found
