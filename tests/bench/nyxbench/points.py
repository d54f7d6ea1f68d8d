# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Samples, found by what they are of."""

import statistics


class Points:
    """Each point has parameters, and "ns": a figure for each round."""

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
