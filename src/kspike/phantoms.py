# SPDX-License-Identifier: MIT
"""Test images with values in [0, 1]: random ellipses as in the paper, and the Shepp-Logan head."""

from __future__ import annotations

import numpy as np

from kspike import door

__all__ = ["ellipses", "shepp_logan"]

DRAWS = 256  # linear pieces drawn per ellipse, of which the first non-negative one is taken
ATTEMPTS = 100  # images drawn until one is not zero: only a few pixels can lie between all ellipses
MARGIN_AXIS = 0.9  # an ellipse ends at this share of the distance from its centre to the border


def ellipses(
    shape, *, seed=0, count=None, number=(7, 14), semi_axes=(0.05, 0.45), margin=0.3, slope=0.9, bias=(0.3, 1.0)
):
    """Random ellipses with linear pieces: x(p) = sum_e 1[p in e] (g_e . p + b_e) / max, float32 (rows, cols) in [0, 1].

    The test images of arXiv 2206.05289 and of Genzel, Macdonald and Maerz (arXiv 2011.04268) on the box [-1, 1]^2,
    whose corners are the centres of the corner pixels:

        how many        uniform on number[0] ... number[1]
        centre c        uniform on [margin - 1, 1 - margin]^2
        semi axes       uniform on semi_axes, cut to 0.9 times the distance of c to the border
        rotation        uniform on [0, pi / 2]
        g, b            slope N(0, 1)^2 and uniform on bias, drawn again until g . p + b >= 0 on the whole ellipse

    "On the whole ellipse" is decided by its formula, g . c + b >= |diag(semi axes) R g|, and not pixel by pixel, so
    that one seed is the same picture at every resolution. An ellipse for which none of 256 draws is non-negative gets
    the constant piece b of the first; for the default parameters that is practically impossible.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns. A side of one pixel is a slice through the middle of the box.
    seed : int
        Image i depends only on (seed, i): it is drawn with numpy.random.default_rng((seed, i)).
    count : int, optional
        Return (count, rows, cols) float32; without it image 0 alone, (rows, cols).
    number, semi_axes, margin, slope, bias
        See above; the defaults are the paper's.

    An image in which no ellipse holds a pixel is drawn again. Raises ValueError where that never ends, as for 2 x 2,
    whose pixels all lie on the border, and for parameters that make no image.
    """
    shape = door.shape2(shape)
    seed, total = door.whole("seed", seed, 0), 1 if count is None else door.whole("count", count, 0)
    margin, slope = door.number("margin", margin, 0, 1), door.number("slope", slope, 0, closed=True)
    if not 1 <= number[0] <= number[1]:
        raise ValueError(f"number: expected (least, most) with 1 <= least <= most, got {number}")
    if not 0 < semi_axes[0] <= semi_axes[1] <= 1:
        raise ValueError(f"semi_axes: expected (least, most) with 0 < least <= most <= 1, got {semi_axes}")
    if not (0 <= bias[0] <= bias[1] < np.inf and bias[1] > 0):
        raise ValueError(f"bias: expected (least, most) with 0 <= least <= most and most > 0, got {bias}")

    images = np.empty((total, *shape), np.float32)
    for i, image in enumerate(images):
        rng = np.random.default_rng((seed, i))
        for _ in range(ATTEMPTS):
            image[...] = _draw(shape, *_random_ellipses(rng, number, semi_axes, margin, slope, bias))
            if image.any():
                break
        else:
            raise ValueError(f"shape: expected one whose pixels can lie in an ellipse of image {i}, got {shape}")
        image /= image.max()
    return images[0] if count is None else images


def _random_ellipses(rng, number, semi_axes, margin, slope, bias):
    """Centres, semi axes, rotations and pieces (g0, g1, b) of one image of `ellipses`."""
    n = rng.integers(number[0], number[1], endpoint=True)
    centre = (1 - margin) * rng.uniform(-1, 1, (n, 2))
    room = MARGIN_AXIS * (1 - np.abs(centre).max(1, keepdims=True))
    axes = np.minimum(rng.uniform(*semi_axes, (n, 2)), room)
    turn = rng.uniform(0, np.pi / 2, n)
    gradient, constant = slope * rng.standard_normal((n, DRAWS, 2)), rng.uniform(*bias, (n, DRAWS))

    least = np.einsum("nda,na->nd", gradient, centre) + constant
    least -= np.linalg.norm(axes[:, None] * _rotate(gradient, turn[:, None]), axis=-1)
    e, chosen = np.arange(n), np.argmax(least >= 0, axis=1)
    valid = least[e, chosen] >= 0
    return centre, axes, turn, np.column_stack([gradient[e, chosen] * valid[:, None], constant[e, chosen]])


def shepp_logan(shape):
    """The Shepp-Logan head with Toft's contrast: float32 (rows, cols) in [0, 1].

    Ten ellipses with constant pieces on [-1, 1]^2; the first axis points down.
    Source: P. Toft, The Radon Transform (1996), p. 199.
    """
    table = np.array(  # value, semi axes across and down, centre across and up, rotation in degrees
        [
            (1.0, 0.69, 0.92, 0.0, 0.0, 0),
            (-0.8, 0.6624, 0.874, 0.0, -0.0184, 0),
            (-0.2, 0.11, 0.31, 0.22, 0.0, -18),
            (-0.2, 0.16, 0.41, -0.22, 0.0, 18),
            (0.1, 0.21, 0.25, 0.0, 0.35, 0),
            (0.1, 0.046, 0.046, 0.0, 0.1, 0),
            (0.1, 0.046, 0.046, 0.0, -0.1, 0),
            (0.1, 0.046, 0.023, -0.08, -0.605, 0),
            (0.1, 0.023, 0.023, 0.0, -0.606, 0),
            (0.1, 0.023, 0.046, 0.06, -0.605, 0),
        ]
    )
    value, across, down, right, up, degrees = table.T
    centre, axes = np.column_stack([-up, right]), np.column_stack([down, across])
    pieces = np.column_stack([np.zeros((10, 2)), value])
    image = _draw(door.shape2(shape), centre, axes, np.deg2rad(degrees), pieces)
    return np.clip(image, 0, 1).astype(np.float32)


def _draw(shape, centre, axes, turn, pieces):
    """sum_e 1[|diag(1 / axes) R (p - c)| <= 1] (g . p + b) with pieces = (g0, g1, b), float64 of this shape."""
    image = np.zeros(shape)
    grid = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape]
    for c, a, angle, (g0, g1, b) in zip(centre, axes, turn, pieces, strict=True):
        half = np.hypot(a * np.cos(angle), a[::-1] * np.sin(angle)) + 1e-9  # of the bounding box, rounded outwards
        box = tuple(slice(*np.searchsorted(g, (m - h, m + h))) for g, m, h in zip(grid, c, half, strict=True))
        p = np.stack(np.meshgrid(grid[0][box[0]], grid[1][box[1]], indexing="ij"), axis=-1)
        inside = (np.square(_rotate(p - c, angle) / a)).sum(-1) <= 1
        image[box] += inside * (p @ (g0, g1) + b)
    return image


def _rotate(v, angle):
    """R v with R = ((cos, sin), (-sin, cos)): the coordinates of v along axes turned by the angle."""
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([c * v[..., 0] + s * v[..., 1], c * v[..., 1] - s * v[..., 0]], axis=-1)
