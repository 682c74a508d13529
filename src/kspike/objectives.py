# SPDX-License-Identifier: MIT
"""What an attack maximises, and where: a function of the pixels of rec(y + e) in a region, and the regions themselves.

A region is a pair (pixels, weights): flat indices into the image, or slice(None) for all of it, and the moduli of the
paper's weight vector phi there, or 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kspike import door

__all__ = ["OBJECTIVES", "Objective", "centres", "disk", "inside", "regions"]

OBJECTIVES = ("artifact", "moduli", "l2", "target")


@dataclass(frozen=True, eq=False)
class Objective:
    """A function of x = rec(y + e) on a region with weights phi, to be maximised; r is the reference, rec(y) or truth.

    "artifact": ||phi (x - r)||_2, formula (6) of arXiv 2206.05289, and "l2" the same on the whole image, its formula
    (4); "moduli": ||phi (|x| - |r|)||_2, what its code compares; "target": -||phi (x - r - pattern)||_2.
    """

    kind: str = "artifact"
    pattern: Any = field(default=None, repr=False)
    """The artifact aimed at, (rows, cols), of "target"."""
    against: str = "clean"
    """r: "clean", rec(y), or "truth", the image given to the attack as truth."""
    squared: bool = False
    """The square of the norm: a gradient with a size, which Adam's eps and the steps of PGD see."""

    def __post_init__(self):
        if self.kind not in OBJECTIVES:
            raise ValueError(f"objective: expected one of {', '.join(OBJECTIVES)}, got {self.kind!r}")
        if self.against not in ("clean", "truth"):
            raise ValueError(f"against: expected 'clean' or 'truth', got {self.against!r}")
        if (self.kind == "target") != (self.pattern is not None):
            raise ValueError("pattern: expected an image for objective 'target', and for no other")

    def gradient(self, x, reference, region, out=None):
        """The value and its gradient dL/dRe x + i dL/dIm x, (rows, cols), 0 where the value has none.

        out: where the gradient is written, in the region only: an image that is 0 elsewhere.
        """
        pixels, weights = region
        g = np.zeros_like(x) if out is None else out
        value, g.reshape(-1)[pixels] = self._at(x.reshape(-1)[pixels], reference, pixels, weights)
        return float(value) if isinstance(x, np.ndarray) else value, g

    def gradients(self, x, reference, regions, out):
        """The value of each image of a batch in a region of its own; the gradients are written to `out`.

        On a GPU in one go where the regions have as many pixels each, and without waiting for it.
        """
        counts = {len(pixels) if isinstance(pixels, np.ndarray) else None for pixels, _ in regions}
        if isinstance(x, np.ndarray) or len(counts) > 1 or None in counts:
            parts = zip(x, regions, out, strict=True)
            return tuple(self.gradient(xi, reference, region, gi)[0] for xi, region, gi in parts)
        pixels, weights = (np.asarray(np.stack(np.broadcast_arrays(*p)), like=x) for p in zip(*regions, strict=True))
        places = np.arange(len(x), like=x)[:, None], pixels
        flat = x.reshape(len(x), -1)[places]
        weights = weights.reshape(len(x), -1).astype(x.real.dtype)
        values, out.reshape(len(x), -1)[places] = self._at(flat, reference, pixels, weights)
        return tuple(values[:, 0])

    def _at(self, flat, reference, pixels, weights):
        """The value, over the last axis, and the gradient at the pixels that x has the values `flat` at."""
        r, direction, sign = reference.reshape(-1)[pixels], 1, 1
        if self.kind == "moduli":
            a = np.abs(flat) - np.abs(r)
            direction = flat / np.where(flat != 0, np.abs(flat), 1)
        elif self.kind == "target":
            a, sign = flat - r - self.pattern.reshape(-1)[pixels], -1
        else:
            a = flat - r
        a = weights * a
        size = np.linalg.norm(a.astype(np.complex128), axis=-1, keepdims=a.ndim > 1)  # squares overflow in single
        size = float(size) if isinstance(size, np.generic) else size
        scale = 2.0 if self.squared else 1 / (size + (size == 0))
        return sign * (size**2 if self.squared else size), sign * scale * weights * a * direction


def regions(shape, grid, at, radius, phi):
    """The regions an attack visits: locations (*table, 2), (k, 2) for a list or stack; their (pixels, weights)."""
    if phi is not None:
        if not isinstance(phi, np.ndarray) or phi.ndim not in (2, 3) or phi.shape[-2:] != tuple(shape):
            came = phi.shape if isinstance(phi, np.ndarray) else type(phi).__name__
            raise ValueError(f"phi: expected weights {tuple(shape)}, or a stack of them, got {came}")
        weights = np.abs(phi).reshape(-1, math.prod(shape))
        peaks = np.stack(np.unravel_index(weights.argmax(-1), shape), axis=-1)
        found = []
        for w in weights:
            pixels = np.flatnonzero(w)
            if not pixels.size:
                raise ValueError("phi: expected weights that are not all zero")
            found.append((pixels, w[pixels].astype(np.float32 if w.dtype == np.float32 else float)))
        return peaks, found
    if at is None:
        locations = centres(shape, grid)
    else:
        locations = np.array([inside(place, shape, "at") for place in at], int).reshape(-1, 2)
        if not len(locations):
            raise ValueError("at: expected at least one location (row, col), got none")
    if radius == math.inf:
        return locations, [(slice(None), 1)] * (locations.size // 2)
    return locations, [(disk(shape, centre, radius), 1) for centre in locations.reshape(-1, 2)]


def inside(location, shape, name="location"):
    """A location (row, col) inside the image, or (index,) inside the signal."""
    try:
        place = tuple(door.whole(name, n, 0) for n in map(int, location))
    except (TypeError, ValueError):
        place = ()
    if len(place) != len(shape) or any(i >= n for i, n in zip(place, shape, strict=True)):
        wanted = "(row, col) inside an image" if len(shape) == 2 else "(index,) inside a signal"
        raise ValueError(f"{name}: expected {wanted} {tuple(shape)}, got {location!r}")
    return place


def centres(shape, grid):
    """The centres of a grid of equal boxes, (*grid, 2): row (i + 1/2) rows / grid[0], rounded down."""
    grid = door.shape2(grid, "grid")
    if grid[0] > shape[0] or grid[1] > shape[1]:
        raise ValueError(f"grid: expected no more locations than pixels, {tuple(shape)}, got {grid}")
    rows, cols = ((2 * np.arange(g) + 1) * n // (2 * g) for g, n in zip(grid, shape, strict=True))
    return np.stack(np.meshgrid(rows, cols, indexing="ij"), axis=-1)


def disk(shape, centre, radius):
    """Flat indices of the pixels of the image within `radius` of the centre."""
    reach = math.floor(radius)
    rows, cols = (np.arange(max(c - reach, 0), min(c + reach + 1, n)) for c, n in zip(centre, shape, strict=True))
    within = (rows[:, None] - centre[0]) ** 2 + (cols - centre[1]) ** 2 <= radius**2
    return (rows[:, None] * shape[1] + cols)[within]
