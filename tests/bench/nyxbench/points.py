# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Samples, found by what they are of."""

import statistics


class Points:
    """Each point has parameters, and "ns": a figure for each round.

    Where guests are compared there is also "boots": the median of the rounds
    of each boot, which goes with the same boot of the other contender.
    """

    def __init__(self):
        self.samples = []

    def add(self, point):
        self.samples.append(point)

    def find(self, **wanted):
        """The points with these parameters."""
        return [point for point in self.samples
                if all(point.get(key) == value
                       for key, value in wanted.items())]

    def values(self, key, **wanted):
        """What the parameter is at these points, each once, in order."""
        return list(dict.fromkeys(point[key] for point in self.find(**wanted)
                                  if key in point))

    def median(self, **wanted):
        """Of the one point with these parameters; None if it is not there."""
        found = self.find(**wanted)
        return statistics.median(found[0]['ns']) if found else None

    def spread(self, **wanted):
        """Half of the range of the middle half, as a part of the median."""
        found = self.find(**wanted)
        if not found or len(found[0]['ns']) < 4:
            return None
        low, middle, high = statistics.quantiles(found[0]['ns'], n=4)
        return (high - low) / 2 / middle

    def ratio(self, contender, base, **wanted):
        """Of medians; None if one of them is not there."""
        value = self.median(contender=contender, **wanted)
        other = self.median(contender=base, **wanted)
        return value / other if value and other else None

    def _boot_ratios(self, contender, base, **wanted):
        """The ratio within each boot of the two."""
        ours = self.find(contender=contender, **wanted)
        theirs = self.find(contender=base, **wanted)
        if not ours or not theirs:
            return []
        return [value / other for value, other
                in zip(ours[0]['boots'], theirs[0]['boots'])]

    def paired_ratio(self, contender, base, **wanted):
        """Median, over boots, of the ratio of the two within a boot.

        What a boot leaves to chance stays in all its rounds, and the host may
        have changed until the next one. None if one of the two is not there.
        """
        ratios = self._boot_ratios(contender, base, **wanted)
        return statistics.median(ratios) if ratios else None

    def paired_spread(self, contender, base, **wanted):
        """Half of the range of those ratios, as a part of their median; None
        if there was but one boot.
        """
        ratios = self._boot_ratios(contender, base, **wanted)
        if len(ratios) < 2:
            return None
        return (max(ratios) - min(ratios)) / 2 / statistics.median(ratios)
