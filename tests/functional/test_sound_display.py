# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Sound by DMA sample for sample, and a display pixel by pixel."""

import array

from nyxtest.case import GuestTest, has_nyx
from nyxtest.display import add_display, draw, wait_shown

RATE = 48000


def longest_count(samples):
    """Length of the longest part in which each sample is one above the last."""
    longest = current = 1
    for before, after in zip(samples, samples[1:]):
        current = current + 1 if (after - before) & 0xffff == 1 else 1
        longest = max(longest, current)
    return longest


class SoundDisplayTest(GuestTest):

    @classmethod
    def describe(cls, vm):
        cls.wave = vm.folder / 'sound.wav'
        vm.domain('dom-sound', isolation='strict')
        vm.domain('dom-display', isolation='strict')
        vm.add('-audiodev', f'wav,id=wav,path={cls.wave},out.format=s16,'
               f'out.frequency={RATE},out.channels=2,timer-period=2000')
        vm.device('ich9-intel-hda', ['snd_hda_codec_generic', 'snd_hda_intel',
                                     'snd_pcm_oss'], 'dom-sound', id='sound')
        vm.device('hda-output', bus='sound.0', audiodev='wav', mixer='off')
        add_display(vm, 'display', 'dom-display')

    def test_display(self):
        """What the guest draws is what the screen shows."""
        draw(self.vm, 'aZbY')
        self.assertTrue(wait_shown(self.vm, 'display', 'aZbY'),
                        'the screen is not what the guest drew')
        if has_nyx():
            self.assert_in_domain('display', 'dom-display')
        self.assert_no_faults()

    def test_sound(self):
        """The samples that the device fetched are those the guest played."""
        self.vm.agent.check('nyx-play /dev/dsp 1000')
        if has_nyx():
            self.assert_in_domain('sound', 'dom-sound')
            self.assertGreater(
                self.nyx_device('sound')['interrupts']['delivered'], 0)
        self.assert_no_faults()
        data = self.wave.read_bytes()
        self.assertEqual(data[:4], b'RIFF')
        samples = array.array('h', data[44:len(data) // 4 * 4])[::2]
        # A busy host may interrupt the stream, but not falsify it.
        self.assertGreaterEqual(longest_count(samples), RATE // 10)
