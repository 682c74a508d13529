# SPDX-License-Identifier: MIT
"""What a linear operator of kspike maps from and to."""

from __future__ import annotations

from kspike.operators import Gradient, MaskedFourier

__all__ = ["shapes"]


def shapes(A):
    """(shape of an image, shape of its data): ((rows, cols), (m,)) of A, ((rows, cols), (2, rows, cols)) of D."""
    if isinstance(A, MaskedFourier):
        return A.shape, (A.samples,)
    if isinstance(A, Gradient):
        return A.shape, (2, *A.shape)
    raise TypeError(f"A: expected a kspike.MaskedFourier or kspike.Gradient, got {type(A).__name__}")
