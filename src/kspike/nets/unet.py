# SPDX-License-Identifier: MIT
"""The U-Net of Ronneberger et al. (arXiv 1505.04597), with the state dict of the robust-nets experiments."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

__all__ = ["UNet"]

LEVELS = 4


class UNet(nn.Module):
    """(batch, in_channels, rows, cols) -> (batch, out_channels, rows, cols), real; rows, cols multiples of 16.

    Parameters
    ----------
    in_channels, out_channels : 2 for complex images
    base_features : channels of the uppermost level; each of the four below has twice as many as the one above
    drop_factor : probability of dropout after each convolution
    """

    def __init__(self, in_channels=2, out_channels=2, base_features=32, drop_factor=0.0):
        super().__init__()
        features = [base_features * 2**level for level in range(LEVELS + 1)]
        for level in range(1, LEVELS + 1):
            above, here = (in_channels, *features)[level - 1], features[level - 1]
            self.add_module(f"encoder{level}", _block(above, here, drop_factor, f"encoding_{level}"))
        self.bottleneck = _block(features[-2], features[-1], drop_factor, "bottleneck")
        for level in range(LEVELS, 0, -1):
            below, here = features[level], features[level - 1]
            self.add_module(f"upconv{level}", nn.ConvTranspose2d(below, here, 2, stride=2))
            self.add_module(f"decoder{level}", _block(2 * here, here, drop_factor, f"decoding_{level}"))
        self.outconv = nn.Conv2d(base_features, out_channels, 1)

    def forward(self, x):
        """(batch, in_channels, rows, cols) -> (batch, out_channels, rows, cols)."""
        skips = []
        for level in range(1, LEVELS + 1):
            skips.append(self.get_submodule(f"encoder{level}")(x))
            x = nn.functional.max_pool2d(skips[-1], 2)
        x = self.bottleneck(x)
        for level in range(LEVELS, 0, -1):
            x = torch.cat([self.get_submodule(f"upconv{level}")(x), skips.pop()], 1)
            x = self.get_submodule(f"decoder{level}")(x)
        return self.outconv(x)


def _block(channels, out, drop, name):
    """Convolve, normalise, rectify, drop; twice."""
    steps = OrderedDict()
    for i, before in ((1, channels), (2, out)):
        steps[f"{name}conv{i}"] = nn.Conv2d(before, out, 3, padding=1)
        steps[f"{name}bn_{i}"] = nn.BatchNorm2d(out)
        steps[f"{name}relu{i}"] = nn.ReLU(inplace=True)
        steps[f"{name}dr{i}"] = nn.Dropout(drop)
    return nn.Sequential(steps)
