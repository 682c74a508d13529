# SPDX-License-Identifier: MIT
"""recTV as the code of arXiv 2206.05289 attacks it: a fixed number of plain ADMM iterations, differentiated exactly.

One iteration from (z, u) is x = (A*A + rho D*D)^-1 (A*y + rho D*(z - u)), z = shrink(D x + u, t), u = D x + u - z. A
start with u = 0 is no single field w, so its first iteration runs from w = 0 with rho D*z as a right-hand side, which
gives the same x and leaves w = D x + 0, as it should. The derivative with respect to y is the same either way.
"""

from __future__ import annotations

import numpy as np

from kspike import door, kernels

__all__ = ["Unrolled"]


class Unrolled:
    """The paper's attacked reconstruction around samples y of one image: `unroll` iterations from a fixed start.

    The start (z, u = 0) is the z after `start` iterations at y, themselves begun at z = D A*y, u = 0. What is judged is
    something else: `evaluate` iterations begun at z = D A*y, u = 0.

    Attributes: `reference`, the x after `start` iterations, which the paper's loss compares with; `x`, the judged
    rec(y); `pairs`, the FFT + inverse FFT pairs of each copy so far.
    """

    def __init__(self, solver, y, *, start=100, unroll=50, evaluate=5000):
        self._solver, self.unroll, self.evaluate = solver, unroll, evaluate
        state, first = self._begin(y[None])
        x = self._go_on(state, y[None], first, start)
        self.reference = x[0]
        self._z = kernels.shrink(state.field(), solver._t, backend=solver.backend)
        self.x = self._go_on(state, y[None], x, evaluate - start + 1)[0] if evaluate > start else self.reference
        self.pairs = np.zeros(1, np.int64)

    def repeat(self, count):
        """A batch of `count` copies; pairs from 0."""
        many = object.__new__(Unrolled)
        many.__dict__.update(self.__dict__, pairs=np.zeros(count, np.int64))
        return many

    def vjp(self, y):
        """The pair of x (batch, rows, cols) after `unroll` iterations and its exact pullback g -> dL/dy."""
        solver = self._solver
        tape = solver._plan.tape(len(y))
        state, x = self._begin(y, self._z, tape)
        x = self._go_on(state, y, x, self.unroll, tape)
        self.pairs += self.unroll

        def pullback(g):
            out, w = np.empty_like(y), np.empty_like(y, shape=(len(y), 2, *solver.shape))
            solver._plan.reverse(tape, g if g.flags.c_contiguous else g.copy(order="C"), out, w, solver.rho, 1.0)
            self.pairs += self.unroll
            return out

        return x, pullback

    def __call__(self, y, max_iterations=None):
        """rec(y) by `evaluate` iterations, (batch, rows, cols); no more than max_iterations if given."""
        count = self.evaluate if max_iterations is None else min(max_iterations, self.evaluate)
        state, x = self._begin(y)
        self.pairs += count
        return self._go_on(state, y, x, count)

    def _begin(self, y, z=None, tape=None):
        """The first iteration from (z, u = 0), z by default D A*y: the state and x after it."""
        solver = self._solver
        door.array("y", y, (solver.samples,), (solver.dtype,))
        if z is None:
            z = kernels.grad(solver.A.adjoint(y), backend=solver.backend)
        rhs = solver.rho * kernels.grad_adjoint(z, backend=solver.backend)
        rhs = np.broadcast_to(rhs.astype(y.dtype), (len(y), *solver.shape)).copy(order="C")
        state, x = solver._zero(y), np.empty_like(rhs)
        solver._plan.iterate(state, y, x, solver._t, solver.rho, 1.0, 1, tape=tape, rhs=rhs)
        return state, x

    def _go_on(self, state, y, x, count, tape=None):
        """The x after `count` iterations, the first of which has been run."""
        if count > 1:
            x = x.copy()
            solver = self._solver
            solver._plan.iterate(state, y, x, solver._t, solver.rho, 1.0, count - 1, tape=tape)
        return x
