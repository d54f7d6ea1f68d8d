# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What runs the recipes of the manual fails where it has to. No guest."""

import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from nyxtest import recipefollow
from nyxtest.recipefollow import RECIPES, Follower
from nyxtest.recipeoutput import matches, same_line
from nyxtest.recipepage import Page, PageError

FOLDER = Path(__file__).resolve().parent
PAGE = '''
Title
=====

One
---

.. code-block:: console

   $ echo one; \\
         echo two
   one
   two
   $ cat <<'END'
   > no prompt
   > END
   no prompt

.. recipe: fails

.. code-block:: console

   # echo {said} && false
   all 3 well

Two
---

.. recipe: not run

.. code-block:: console

   $ rm -r /

.. code-block:: console

   / # {guest}
'''


class _Followed(Follower, unittest.TestCase):
    """A page on this machine, which is the guest as well."""

    def on_host(self, text):
        done = subprocess.run(['bash', '-c', text], text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout

    def in_guest(self, text, name):
        return self.on_host(text)


class PagesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / 'page.rst'

    def page(self, said='all 7 well', guest='true'):
        self.path.write_text(PAGE.format(said=said, guest=guest))
        return Page(self.path)

    def followed(self, **more):
        case = _Followed()
        case.page = self.page(**more)
        return case

    def test_good(self):
        case = self.followed()
        case.follow()
        case.assert_followed()
        self.assertEqual([c.in_guest for c in case.page.commands],
                         [False, False, False, True])
        self.assertEqual(case.page.rewritten(), self.path.read_text()
                         .replace('all 3', 'all 7'))

    def test_command_fails(self):
        with self.assertRaisesRegex(AssertionError, 'status was 3'):
            self.followed(guest='exit 3').follow()

    def test_command_does_not_fail(self):
        case = self.followed()
        case.page.commands[-1].fails = True
        with self.assertRaisesRegex(AssertionError, 'status was 0'):
            case.follow('Two')

    def test_other_output(self):
        with self.assertRaisesRegex(AssertionError, 'the manual says'):
            self.followed(said='all 0 well').follow()
        with self.assertRaisesRegex(AssertionError, 'the manual says'):
            self.followed(guest='echo more').follow()

    def test_left_out(self):
        case = self.followed()
        case.follow('One')
        with self.assertRaisesRegex(AssertionError, 'were not run'):
            case.assert_followed()

    def test_retry(self):
        """Until it is well, and no longer than that."""
        case = self.followed(guest=f'echo >>{self.path}.n; '
                             f'[ $(wc -l <{self.path}.n) = 3 ]')
        case.page.commands[-1].retry = True
        case.follow('Two')
        self.assertEqual(Path(f'{self.path}.n').read_text(), '\n\n\n')
        recipefollow.RETRY_SECONDS, kept = 0, recipefollow.RETRY_SECONDS
        try:
            with self.assertRaises(AssertionError):
                case.follow('Two')
        finally:
            recipefollow.RETRY_SECONDS = kept

    def test_wrong_words(self):
        self.path.write_text('.. recipe: sometimes\n')
        with self.assertRaises(PageError):
            Page(self.path)

    def test_lines(self):
        for one, other in (('a  1.5 s', 'a 20 ms'), ('4 KiB of 9', '1 B of 8'),
                           ('64.5 MiB', '1 GiB'), ('0x10 w', '0xfe w'),
                           ('2026-11-20T00:00:00.366+00:00 x',
                            '2026-11-20T15:55:46.000+00:00 x')):
            self.assertTrue(same_line(one, other), (one, other))
        for one, other in (('0 faults', '1 faults'), ('port a', 'port b'),
                           ('0000:01:00.0', '0000:02:00.0')):
            self.assertFalse(same_line(one, other), (one, other))
        self.assertTrue(matches(['a', '...', 'z'], ['a', 'b', 'c', 'z']))
        self.assertFalse(matches(['a', '...', 'z'], ['a', 'b', 'c']))
        self.assertFalse(matches(['a'], ['a', 'b']))

    def test_each_page_is_run(self):
        """By a class that names it, and it is in the contents."""
        index = (RECIPES / 'index.rst').read_text()
        tests = '\n'.join(path.read_text() for path in
                          FOLDER.glob('test_recipe_*.py'))
        run = set(re.findall(r"^    recipe = '([^']+)'", tests, re.M))
        pages = {path.stem for path in RECIPES.glob('*.rst')} - {'index'}
        self.assertEqual(pages, run)
        for name in pages:
            self.assertIn(f'\n   {name}\n', index)
