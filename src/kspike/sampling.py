# SPDX-License-Identifier: MIT
"""Sampling masks: which frequencies of the centred spectrum are measured. The zero frequency is at index n // 2."""

from __future__ import annotations

import math

import numpy as np

from kspike import door

__all__ = ["cartesian_mask", "radial_mask", "random_mask", "subsampling_factor"]

GOLDEN_ANGLE = math.pi * (math.sqrt(5) - 1) / 2  # 111.25 degrees


def radial_mask(shape, lines=40, *, offset=0):
    """Golden-angle lines through the zero frequency: bool (rows, cols), centred.

    Line k, of angle a = k * 111.25 degrees, samples the pixels at (i, j) from the zero frequency that lie in a strip
    of width one,

        round(i cos a + j sin a + c) = side // 2,   side = ceil(sqrt(2) max(shape)).

    These are the masks of arXiv 2206.05289, bit for bit: its code rotates the image of a horizontal line, of that side,
    about its centre by the nearest neighbour. Where the side is even the centre lies between pixels, so that c is not
    an integer and the strip is not symmetric about the zero frequency. Halves round away from zero.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns, at least 1 each; odd and non-square as you like.
    lines : int
        Number of lines, at least 1.
    offset : int
        Start at k = offset * lines: masks that differ in `offset` share no line. Only then may no strip hold the zero
        frequency itself; it is sampled all the same.

    Raises ValueError for anything else.
    """
    shape, lines, offset = door.shape2(shape), door.whole("lines", lines, 1), door.whole("offset", offset, 0)
    side = math.ceil(math.sqrt(2) * max(shape))
    middle, centre = side // 2, (side - 1) / 2

    mask = np.zeros(shape, bool)
    mask[shape[0] // 2, shape[1] // 2] = True
    for k in range(offset * lines, (offset + 1) * lines):
        c, s = math.cos(k * GOLDEN_ANGLE), math.sin(k * GOLDEN_ANGLE)
        image, shift = mask, centre - (c + s) * centre
        if abs(c) < abs(s):  # walk along the axis that is nearer to the line
            image, c, s = mask.T, s, c
        across, along = image.shape
        j = np.arange(along)[:, None] - along // 2 + middle
        # In this direction the strip is at most sqrt(2) wide: no pixel of it is further than one from the nearest.
        i = np.rint((middle - shift - s * j) / c) + np.arange(-1, 2)
        inside = _round_half_away(s * j + c * i + shift) == middle
        i = i.astype(np.intp) - middle + across // 2
        j, candidate = np.nonzero(inside & (i >= 0) & (i < across))
        image[i[j, candidate], j] = True
    return mask


def cartesian_mask(shape, acceleration=4, center_fraction=0.08, seed=0):
    """Random columns and a fully sampled centre, in fastMRI's sense: bool (rows, cols), centred.

    The round(cols * center_fraction) columns about the zero frequency are sampled, at least that column itself; each
    other one is sampled with the probability that makes cols / acceleration of them in expectation (Zbontar et al.,
    arXiv 1811.08839).

    Parameters
    ----------
    shape : (int, int)
        Rows and columns; the columns are the phase encodes.
    acceleration : float
        Expected n^2 / m, at least 1.
    center_fraction : float
        Share of the columns that is always sampled, from 0 to 1 / acceleration.
    seed : int
        Of numpy.random.default_rng.
    """
    rows, cols = door.shape2(shape)
    acceleration = door.number("acceleration", acceleration, 1, closed=True)
    center_fraction = door.number("center_fraction", center_fraction, 0, closed=True)
    if center_fraction * acceleration > 1:
        raise ValueError(
            f"center_fraction: expected at most 1 / acceleration = {1 / acceleration:.3g}, got {center_fraction}: the "
            "centre alone is more than is to be sampled"
        )
    seed = door.whole("seed", seed, 0)
    centre = max(1, round(cols * center_fraction))
    probability = max(0.0, cols / acceleration - centre) / max(1, cols - centre)
    columns = np.random.default_rng(seed).random(cols) < probability
    first = cols // 2 - centre // 2
    columns[first : first + centre] = True
    return np.tile(columns, (rows, 1))


def random_mask(shape, acceleration=6, power=2, seed=0):
    """The zero frequency and others at random, n^2 / acceleration in all: bool (rows, cols), centred.

    They are drawn without repetition with weights max(1, |k|)^-power, |k| the distance from the zero frequency in units
    of 1/32 of the shorter side (Krahmer and Ward, arXiv 1210.2380, have power = 2).

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    acceleration : float
        n^2 / m, at least 1.
    power : float
        0 is uniform; the larger, the denser the centre.
    seed : int
        Of numpy.random.default_rng.
    """
    rows, cols = door.shape2(shape)
    acceleration = door.number("acceleration", acceleration, 1, closed=True)
    power, seed = door.number("power", power, 0, closed=True), door.whole("seed", seed, 0)
    i, j = np.arange(rows)[:, None] - rows // 2, np.arange(cols) - cols // 2
    weights = np.maximum(1, np.hypot(i, j) * 32 / min(rows, cols)) ** -power
    # The m smallest of exponential times with these rates are a draw without repetition.
    times = np.random.default_rng(seed).exponential(size=(rows, cols)) / weights
    times[rows // 2, cols // 2] = 0
    order = np.argsort(times, axis=None, kind="stable")
    mask = np.zeros(rows * cols, bool)
    mask[order[: max(1, round(rows * cols / acceleration))]] = True
    return mask.reshape(rows, cols)


def subsampling_factor(mask):
    """n^2 / m: the number of frequencies over the number of sampled ones."""
    door.mask(mask)
    return mask.size / np.count_nonzero(mask)


def _round_half_away(v):
    """C's round: halves away from zero (numpy.rint takes halves to even)."""
    return np.copysign(np.floor(np.abs(v) + 0.5), v)
