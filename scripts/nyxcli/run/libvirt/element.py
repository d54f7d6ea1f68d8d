# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""XML in a few words."""

from xml.etree.ElementTree import SubElement


def child(parent, name, /, text=None, **attributes):
    """A new element; attributes that are None are left out.

    An underscore at the end of a name is left out, too: for type_ and its
    like.
    """
    element = SubElement(parent, name, {
        key.rstrip('_').replace('_', '-'): yes_no(value)
        for key, value in attributes.items() if value is not None})
    if text is not None:
        element.text = str(text)
    return element


def yes_no(value):
    """A value as libvirt writes it."""
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return str(value)


def apply_keys(element, section, values):
    """Set what keys of the schema say with their xml."""
    for key in section.keys:
        value = values[key.name]
        if not key.xml or value is None or value == key.default or \
                not key.applies(values):
            continue
        path, _, attribute = key.xml.partition('@')
        target = element.find(path)
        if target is None:
            target = child(element, path)
        if attribute:
            target.set(attribute, yes_no(value))
        else:
            target.text = yes_no(value)
