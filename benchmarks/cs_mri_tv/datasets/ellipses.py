# SPDX-License-Identifier: MIT
"""Random ellipses, sampled along golden-angle lines, with Gaussian noise."""

import numpy as np
from benchopt import BaseDataset

import kspike


class Dataset(BaseDataset):
    """`noise` is ||e|| / ||A x||."""

    name = "ellipses"
    parameters = {"n": [256], "lines": [40], "noise": [0.01], "seed": [3]}
    test_parameters = {"n": [32], "lines": [9]}
    requirements = ["pip::kspike"]

    def get_data(self):
        """The mask and the noisy samples."""
        mask, rng = kspike.radial_mask((self.n, self.n), self.lines), np.random.default_rng(self.seed)
        image = kspike.ellipses((self.n, self.n), seed=self.seed).astype("float64")
        y = kspike.MaskedFourier(mask, dtype="complex128")(image)
        e = rng.standard_normal(y.shape) + 1j * rng.standard_normal(y.shape)
        return {"mask": mask, "y": y + self.noise * np.linalg.norm(y) / np.linalg.norm(e) * e}
