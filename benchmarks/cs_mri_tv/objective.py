# SPDX-License-Identifier: MIT
"""1/2 ||A x - y||^2 + lam ||D x||_1: A a masked centred orthonormal DFT, D periodic forward differences."""

import numpy as np
from benchopt import BaseObjective


class Objective(BaseObjective):
    """Real and imaginary parts shrink apart, |a + ib|_1 = |a| + |b|; x is a complex image (rows, cols)."""

    name = "CS-MRI with total variation"
    url = "https://arxiv.org/abs/2206.05289"
    min_benchopt_version = "1.6"
    parameters = {"lam": [1e-3, 1e-2]}
    sampling_strategy = "iteration"
    test_config = {"dataset": {"name": "ellipses"}}

    def set_data(self, mask, y):
        """Keep mask, bool (rows, cols), centred, and y, complex128 (m,), the samples in C order of the mask."""
        self.mask, self.y = mask, y

    def evaluate_result(self, x):
        """The objective, in double precision, and its two terms."""
        x = np.asarray(x, "complex128")
        spectrum = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x), norm="ortho"))
        d = np.stack([np.roll(x, -1, axis) - x for axis in (0, 1)])
        data = 0.5 * np.linalg.norm(spectrum[self.mask] - self.y) ** 2
        variation = np.abs(d.real).sum() + np.abs(d.imag).sum()
        return {"value": data + self.lam * variation, "data": data, "total_variation": variation}

    def get_one_result(self):
        """An image of zeros."""
        return {"x": np.zeros(self.mask.shape, "complex128")}

    def get_objective(self):
        """What a solver is given."""
        return {"mask": self.mask, "y": self.y, "lam": self.lam}
