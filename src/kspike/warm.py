# SPDX-License-Identifier: MIT
"""The reconstruction that an attack follows: a solver's state, kept from call to call."""

from __future__ import annotations

import math

import numpy as np

from kspike import door
from kspike.outcome import MOST, TOL

__all__ = ["Warm"]


class Warm:
    """recTV with a memory: each call goes on from the state the last one left, one state per image of the batch.

    `vjp(y)` runs `forward` iterations from the kept state; its pullback runs `backward` of the linearised iteration, on
    the support frozen there and from a tangent state that is kept too. At a solution the Jacobian J of A*y -> x is
    symmetric, so the fixed point of that iteration, A J g, is the exact gradient. Made for data that change little from
    call to call.

    Attributes: `x`, the last reconstruction; `state`, the engine's, to solve from: `tv.solve(y, state=kept.state)`; and
    `pairs`, FFT + inverse FFT pairs per image so far: one per iteration, one per pullback for the transforms of g and
    dx. Both z and u of the state go on from call to call; `copy` keeps one to come back to.
    """

    def __init__(self, solver, x, state, forward, backward):
        self._solver, self._state, self.x = solver, state, x
        self.forward, self.backward = forward, backward
        self._lead = x.shape[:-2]
        self._tangent = solver._zero(door.batched(x, 2))
        self.pairs = np.zeros(state.batch, np.int64)

    @property
    def state(self):
        """The state as it stands; calls advance it, so `.copy()` it to keep it."""
        return self._state

    def copy(self):
        """An independent `Warm` at the same point, its tangent state too; pairs from 0."""
        other = Warm(self._solver, self.x, self._state.copy(), self.forward, self.backward)
        other._tangent = self._tangent.copy()
        return other

    def repeat(self, count):
        """A `Warm` with a batch of `count` independent copies of this state, which is of one image; pairs from 0."""
        if self._lead:
            raise ValueError(f"repeat: expected the state of a single image, got a batch of {self._lead}")
        x = np.repeat(self.x[None], count, axis=0)
        state = self._state.copy() if count == 1 else self._solver._plan.state(self._state.field().repeat(count, 0))
        return Warm(self._solver, x, state, self.forward, self.backward)

    def lift(self, e, locations):
        """Put into each state, at its location, the spike that a perturbation e (batch, m) of its samples announces.

        It goes in the direction of v = (A*e)[location] and is |v| n^2 / m - 4 lam n^2 / m high, or not there if that is
        not positive: for e = kspike.spike(A, location, eta) what `TVSolver.spike_height` says. See `TVSolver.lift`.
        """
        solver, factor = self._solver, math.prod(self._solver.shape) / self._solver.samples
        image, w = solver.A.adjoint(e), self._state.field()
        for wi, v, place in zip(w, image, locations, strict=True):
            v = complex(v[tuple(place)])
            v = complex(*(part if abs(part) > 1e-4 * abs(v) else 0.0 for part in (v.real, v.imag)))  # no rounding
            height = factor * (abs(v) - solver._pull)
            if height > 0:
                solver._raise(wi, place, height * v / abs(v))
        self._state = solver._plan.state(w)

    def __call__(self, y, *, max_iterations=MOST, tol=TOL):
        """recTV(y) from the kept state, with the stopping rule of `TVSolver.solve` and at most max_iterations."""
        y, lead = self._samples(y)
        door.scale("y", y)
        info = self._solver._solve(y, lead, self._state, max_iterations, tol)
        self.x, self._state = info.x, info.state
        self.pairs += info.iterations
        return info.x

    def vjp(self, y):
        """The pair of x after `forward` more iterations and the pullback g -> A dx by `backward` tangent iterations."""
        solver, plan = self._solver, self._solver._plan
        y, lead = self._samples(y)
        x = solver._like(y, (len(y), *solver.shape))
        plan.iterate(self._state, y, x, solver._t, solver.rho, solver.relax, self.forward)
        tape = plan.freeze(self._state, solver._t)
        self.x = x.reshape(*lead, *solver.shape)
        self.pairs += self.forward

        def pullback(g):
            solver._image("g", g, lead)
            dx, out = solver._like(y, x.shape), solver._like(y, y.shape)
            plan.tangent(self._tangent, tape, door.batched(g, 2), dx, solver.rho, solver.relax, self.backward)
            plan.forward(dx, out=out)
            self.pairs += self.backward + 1
            return out.reshape(*lead, solver.samples)

        return self.x, pullback

    def _samples(self, y):
        y, lead = self._solver._samples(y, finite=False)
        if lead != self._lead:
            raise ValueError(f"y: expected shape {(*self._lead, self._solver.samples)}, got {(*lead, y.shape[-1])}")
        return y, lead
