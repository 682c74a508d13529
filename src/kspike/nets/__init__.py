# SPDX-License-Identifier: MIT
"""Networks that reconstruct images: the paper's Tira and TiraFL, a U-Net, iterations with data consistency.

>>> net = kspike.nets.load("tira-128")
>>> found = kspike.attack(kspike.torch.Reconstruction(net), y, noise=0.02)
"""

from kspike.nets.checkpoint import build, bundled, load, save
from kspike.nets.inverse import LearnedInverse, ZeroFilled
from kspike.nets.iterative import IterativeNet
from kspike.nets.tiramisu import Tiramisu
from kspike.nets.train import Recipe, evaluate, train
from kspike.nets.unet import UNet

__all__ = [
    "IterativeNet",
    "LearnedInverse",
    "Recipe",
    "Tiramisu",
    "UNet",
    "ZeroFilled",
    "build",
    "bundled",
    "evaluate",
    "load",
    "save",
    "train",
]
