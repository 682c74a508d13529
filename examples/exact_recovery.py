# SPDX-License-Identifier: MIT
"""Why there is a spike: exact recovery from few frequencies, in one dimension (section 5 of arXiv 2206.05289)."""

import numpy as np

import kspike

n, m, s = 4096, 117, 5
rng = np.random.default_rng(0)
mask = np.zeros(n, bool)
mask[rng.choice(n, m, replace=False)] = True
mask[n // 2] = True  # the zero frequency, or the mean is lost

ends = np.sort(rng.choice(n, s, replace=False))
x = rng.random(s)[np.searchsorted(ends, np.arange(n)) % s].astype(complex)  # s steps
delta = np.eye(1, n, n // 2, dtype=complex)[0]  # a spike

solver = kspike.SparseSolver(mask, "gradient", eta=0, norm="modulus", dtype="complex128")
clean, spiked = (solver.solve(solver.A(v)) for v in (x, x + delta))
print(f"{m} of {n} frequencies: x to {abs(clean.x - x).max():.0e}, x + delta to {abs(spiked.x - x - delta).max():.0e}")

seen = abs(solver.A.adjoint(solver.A(delta))).max()  # what the perturbation does to the zero-filled signal
print(f"alpha {abs(spiked.x - clean.x).max() / seen:.2f}, n/m {n / mask.sum():.2f}")
