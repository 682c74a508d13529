# SPDX-License-Identifier: MIT
"""The Shepp-Logan phantom from random columns, without noise."""

from benchopt import BaseDataset

import kspike


class Dataset(BaseDataset):
    """`acceleration` is n^2 / m, in expectation."""

    name = "shepp-logan"
    parameters = {"n": [256], "acceleration": [4], "seed": [0]}
    test_parameters = {"n": [32]}
    requirements = ["pip::kspike"]

    def get_data(self):
        """The mask and the samples."""
        mask = kspike.cartesian_mask((self.n, self.n), self.acceleration, seed=self.seed)
        image = kspike.shepp_logan((self.n, self.n)).astype("float64")
        return {"mask": mask, "y": kspike.MaskedFourier(mask, dtype="complex128")(image)}
