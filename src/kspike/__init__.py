# SPDX-License-Identifier: MIT
"""Attack and stress-test MRI reconstructions from undersampled Fourier data, with compiled kernels.

>>> mask = kspike.radial_mask((256, 256), lines=40)
>>> tv = kspike.TVSolver(mask, lam=5.6e-3)
>>> y = tv.A(kspike.ellipses((256, 256), seed=0))
>>> found = kspike.attack(tv, y, noise=0.04)
"""

from kspike import kernels, metrics
from kspike.ascent import PGD, Adam, Ball, Power
from kspike.attack import attack
from kspike.baselines import random_noise, rectangle, spike
from kspike.bound import certify
from kspike.images import read_image, read_mask
from kspike.methods import FISTA, PDHG
from kspike.objectives import Objective
from kspike.operators import Gradient, MaskedFourier
from kspike.phantoms import ellipses, shepp_logan
from kspike.sampling import cartesian_mask, radial_mask, random_mask
from kspike.solver import TVSolver
from kspike.sparse import SparseSolver
from kspike.transfer import transfer
from kspike.tuning import tune

__all__ = [
    "FISTA",
    "PDHG",
    "PGD",
    "Adam",
    "Ball",
    "Gradient",
    "MaskedFourier",
    "Objective",
    "Power",
    "SparseSolver",
    "TVSolver",
    "attack",
    "cartesian_mask",
    "certify",
    "ellipses",
    "kernels",
    "metrics",
    "radial_mask",
    "random_mask",
    "random_noise",
    "read_image",
    "read_mask",
    "rectangle",
    "shepp_logan",
    "spike",
    "transfer",
    "tune",
]
