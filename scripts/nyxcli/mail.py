# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Send a text by the mail system of the host."""

import os
import shutil
import subprocess
from email.message import EmailMessage

from .errors import NyxError

PLACES = '/usr/sbin:/usr/lib'           # where sendmail is, beside PATH


def send(address, subject, text):
    """NyxError if there is no mail system, or it refuses."""
    path = f'{os.environ.get("PATH", "")}:{PLACES}'
    program = shutil.which('sendmail', path=path)
    if program is None:
        raise NyxError('there is no sendmail on this host, so nothing was '
                       'mailed; install a mail system, such as the packages '
                       'msmtp-mta or postfix.')
    message = EmailMessage()
    message['To'], message['Subject'] = address, subject
    message.set_content(text)
    done = subprocess.run([program, '-oi', '-t'], input=message.as_bytes(),
                          capture_output=True, check=False)
    if done.returncode:
        why = done.stderr.decode(errors='replace').strip().splitlines()
        raise NyxError(f'{program} did not take the mail to {address}: '
                       f'{why[-1] if why else "it does not say why"}.')
