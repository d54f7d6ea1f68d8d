# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Cost over working set, as a figure."""

import matplotlib
matplotlib.use('svg')
from matplotlib import pyplot   # noqa: E402 pylint: disable=C0413


def draw(points, path):
    """A curve for each contender, with leaves of 4 KiB."""
    suite = {'suite': 'working-set', 'leaf': 4096}
    sets = points.values('pages', **suite)
    figure, axes = pyplot.subplots(figsize=(8, 5))
    for contender in points.values('contender', **suite):
        axes.plot(sets, [points.median(contender=contender, pages=pages,
                                       **suite) for pages in sets],
                  marker='o', markersize=3, label=contender,
                  linestyle='-' if contender.startswith('nyx') else '--')
    axes.set(xscale='log', yscale='log', xlabel='pages of 4 KiB, at random',
             ylabel='ns per read of 64 bytes')
    axes.grid(True, which='both', alpha=0.3)
    axes.legend(fontsize='small')
    figure.tight_layout()
    figure.savefig(path)
