# SPDX-License-Identifier: MIT
"""What the other functionals cost: the tables of docs/functionals.md, complex64 and one thread where seconds count.

* `taskset -c 1 python bench/functionals.py norms`: an iteration and the derivative sweeps in the joint norms
* `python bench/functionals.py exact`: exact recovery of signals, error, pairs and seconds
"""

import statistics
import time

import numpy as np

import kspike
from kspike._backends import select
from scaling import main, paired, race  # this folder's

T, RHO, RELAX, COUNT = 0.02, 0.1, 1.9, 20


class Sweeps:
    """Twenty iterations of a plan, and its derivative sweeps over as many, in the middle of a solve of noise."""

    def __init__(self, engine, norm, n=256):
        mask, rng = kspike.radial_mask((n, n), lines=40), np.random.default_rng(0)
        self.plan = select(engine).Plan(mask, "complex64", 1, norm)
        self.x = (rng.standard_normal((1, n, n, 2), "float32") @ np.array([1, 1j], "complex64")).astype("complex64")
        self.y = self.plan.forward(self.x, out=np.empty((1, int(mask.sum())), "complex64"))
        self.w, self.dx, self.gy = np.zeros((1, 2, n, n), "complex64"), np.empty_like(self.x), np.empty_like(self.y)
        self.state, self.tangents = self.plan.state(self.w), self.plan.state(self.w)
        self.iterate()
        self.frozen = self.plan.freeze(self.state, T)
        self.tape = self.plan.tape(1)
        self.taped()

    def iterate(self):
        """The iteration."""
        self.plan.iterate(self.state, self.y, self.x, T, RHO, RELAX, COUNT)

    def taped(self):
        """The iteration, and a new tape of it: what has to be allocated counts."""
        self.tape = self.plan.tape(1)
        self.plan.iterate(self.state, self.y, self.x, T, RHO, RELAX, COUNT, tape=self.tape)

    def reverse(self):
        """Back over the tape."""
        self.plan.reverse(self.tape, self.dx, self.gy, self.w, RHO, RELAX)

    def tangent(self):
        """The linearised iteration on the frozen support."""
        self.plan.tangent(self.tangents, self.frozen, self.x, self.dx, RHO, RELAX, COUNT)


def norms(rounds):
    """ms of an iteration with the separable norm, the others as a multiple of it, the contestants taking turns."""
    for engine in ("cpp", "numba"):
        every = {norm: Sweeps(engine, norm) for norm in ("separable", "modulus", "isotropic")}
        runs = {(norm, what): getattr(s, what) for norm, s in every.items() for what in ("iterate", "taped", "tangent")}
        runs |= {(norm, "reverse"): s.reverse for norm, s in every.items()}
        race(runs, 1)  # Numba compiles
        times = race(runs, rounds)
        base = times["separable", "iterate"]
        print(f"| {engine}, {1e3 * statistics.median(base) / COUNT:.3f} ms | separable | modulus | isotropic |")
        for what in ("iterate", "taped", "reverse", "tangent"):
            ratios = [paired(times[n, what], base) for n in every]
            print(f"| {what} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |", flush=True)


def exact(_rounds):
    """Signals of few nonzeros in each sparsifier, recovered from few frequencies and proven."""
    for n, nonzeros, m in ((4096, 10, 150), (65_536, 20, 1500), (65_536, 20, 400)):
        cells = []
        for psi in ("identity", "gradient", "haar"):
            rng = np.random.default_rng(n + m)
            mask = np.zeros(n, bool)
            mask[n // 2] = True  # the mean, which nothing else tells
            mask[rng.choice(np.flatnonzero(~mask), m - 1, replace=False)] = True
            rec = kspike.SparseSolver(mask, psi, eta=0, norm="modulus", dtype="complex128")
            x = signal(psi, n, nonzeros, rng, rec)
            y, start = rec.A(x), time.process_time()
            info = rec.solve(y)
            seconds, error = time.process_time() - start, np.linalg.norm(info.x - x) / np.linalg.norm(x)
            cells.append(f"{error:.0e}, {info.pairs}, {seconds:.2g}" + ("" if error < 1e-9 else " (not recovered)"))
        print(f"| {n:,}, {nonzeros}, {m} | " + " | ".join(cells) + " |", flush=True)


def signal(psi, n, nonzeros, rng, rec):
    """A complex signal whose coefficients have so many nonzeros."""
    c = np.zeros(n, complex)
    c[rng.choice(n, nonzeros, replace=False)] = rng.standard_normal((nonzeros, 2)) @ (1, 1j)
    if psi == "gradient":
        c -= (c.sum() / nonzeros) * (c != 0)  # a gradient sums to 0
        return np.cumsum(c)
    return c if psi == "identity" else rec.psi.adjoint(c)


if __name__ == "__main__":
    main({"norms": norms, "exact": exact}, __doc__)
