# SPDX-License-Identifier: MIT
"""What every solver here returns: a reconstruction, how it ended, and how good it is, measured in double precision."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

__all__ = ["MOST", "TOL", "Outcome", "Residuals", "plain"]

MOST, TOL = 4000, 1e-3  # the iterations and the aim of a solve that is not told otherwise


@dataclass(frozen=True, eq=False)
class Residuals:
    """How far a solution is from optimal; with all of them 0 it is. A float each, or an array over the batch.

    With z = shrink(w, t), u = clip(w, t) of the final state, rho u lies in lam times the subgradient of ||.||_1 at z,
    whatever w is; so D x = z and A*(A x - y) + rho D*u = 0 make x a minimiser.
    """

    change: Any
    """||x_k - x_(k-10)||_inf over real and imaginary parts, when last measured; inf if it never was."""
    primal: Any
    """||D x - z||_2 / ||z||_2 (not divided where z = 0)."""
    dual: Any
    """||A*(A x - y) + rho D*u||_2 / ||A*y||_2 (not divided where y = 0)."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """A number per image, or an array over the leading dimensions of y."""

    x: Any = field(repr=False)
    """The reconstruction, (..., rows, cols) or (..., n)."""
    iterations: Any
    """How many iterations, of one FFT and one inverse FFT each, the image took."""
    converged: Any
    """Whether the stopping rule was met; always False for tol = 0, where none is asked for."""
    state: Any = field(repr=False)
    """The state of the method, to go on from: `solve(y, state=info.state)`."""
    _solver: Any = field(repr=False)
    _y: Any = field(repr=False)
    _change: Any = field(repr=False)

    @property
    def _lead(self):
        """The leading dimensions."""
        return self._y.shape[:-1]

    @functools.cached_property
    def objective(self):
        """What was minimised, evaluated in double precision; see the solver's `objective`."""
        return self._solver.objective(self.x, self._y)

    @functools.cached_property
    def residuals(self):
        """The `Residuals`, evaluated in double precision from x and the final state, independently of the iteration."""
        return self._solver._residuals(self)

    @functools.cached_property
    def certificate(self):
        """The `Certificate`, a proven bound on the objective gap, computed in double precision when first asked for."""
        return self._solver._certificate(self)


def plain(a):
    """A Python number for a single image, the array for a batch."""
    return a.item() if a.ndim == 0 else a
