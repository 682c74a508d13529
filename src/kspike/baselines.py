# SPDX-License-Identifier: MIT
"""Perturbations of the samples that need no reconstruction: what an attack has to beat. Each has ||e||_2 = eta."""

from __future__ import annotations

import numpy as np

from kspike import door
from kspike.ascent import scaled
from kspike.objectives import inside

__all__ = ["random_noise", "rectangle", "spike"]


def spike(A, location, eta):
    """The plain scaled spike eta A delta / ||A delta||, delta the unit image at location (row, col): the baseline.

    For signals the location is (index,).
    """
    return rectangle(A, location, (1,) * len(A.shape), eta)


def rectangle(A, location, size, eta):
    """eta A x / ||A x||, x the indicator of size (rows, cols) pixels from location on: end of section 5 of the paper.

    The rectangle may not cross the border. For signals location and size are (index,) and (length,).
    """
    location = inside(location, A.shape)
    size = door.extent(size, "size")
    box = tuple(slice(first, first + length) for first, length in zip(location, size, strict=False))
    if len(size) != len(A.shape) or any(part.stop > n for part, n in zip(box, A.shape, strict=True)):
        raise ValueError(f"size: expected a rectangle inside the image {tuple(A.shape)}, got {size} from {location}")
    x = np.zeros(A.shape, A.dtype)
    x[box] = 1
    return scaled(A(door.put(A, x))[None], door.number("eta", eta, 0))[0]


def random_noise(A, eta, seed=0):
    """Complex Gaussian noise of the size eta, seeded."""
    e = np.random.default_rng(seed).standard_normal((1, A.samples, 2)) @ (1, 1j)
    return scaled(door.put(A, e.astype(A.dtype)), door.number("eta", eta, 0))[0]
