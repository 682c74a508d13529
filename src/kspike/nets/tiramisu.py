# SPDX-License-Identifier: MIT
"""The Tiramisu: a U-shaped network of dense blocks, in each of which every layer sees the outputs of all before it.

Jegou et al., The One Hundred Layers Tiramisu (arXiv 1611.09326), in the form of Genzel, Macdonald and Maerz (arXiv
2011.04268), whose names the state dict keeps.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

__all__ = ["Tiramisu"]


class Tiramisu(nn.Module):
    """(batch, in_channels, rows, cols) -> (batch, out_channels, rows, cols), real.

    Parameters
    ----------
    in_channels, out_channels : 2 for complex images
    drop_factor : probability of Dropout2d after each convolution
    down_blocks, up_blocks : layers of each dense block, on the way down and on the way up
    pool_factors : by how much each level is smaller than the one above
    bottleneck_layers : of the dense block at the bottom
    growth_rate : channels that a layer adds
    out_chans_first_conv : channels that the first block begins with
    unshuffle : fold squares of so many pixels into channels before, and back after: the same image at a lower cost

    Rows and cols must be multiples of unshuffle. The defaults are those of the robust-nets experiments but for the
    channels; the source's own are five blocks of five layers and a growth of 8.
    """

    def __init__(
        self,
        in_channels=2,
        out_channels=2,
        drop_factor=0.0,
        down_blocks=(5, 7, 9, 12, 15),
        up_blocks=(15, 12, 9, 7, 5),
        pool_factors=(2, 2, 2, 2, 2),
        bottleneck_layers=20,
        growth_rate=16,
        out_chans_first_conv=16,
        unshuffle=1,
    ):
        super().__init__()
        if not len(down_blocks) == len(up_blocks) == len(pool_factors) > 0:
            raise ValueError(
                "down_blocks, up_blocks, pool_factors: expected one number a level in each, got "
                f"{down_blocks}, {up_blocks} and {pool_factors}"
            )
        self.unshuffle = unshuffle
        channels = out_chans_first_conv
        self.firstconv = nn.Conv2d(in_channels * unshuffle**2, channels, 3, padding=1)
        self.bn_layer = nn.BatchNorm2d(channels)

        self.denseBlocksDown, self.transDownBlocks, skips = nn.ModuleList(), nn.ModuleList(), []
        for layers, factor in zip(down_blocks, pool_factors, strict=True):
            self.denseBlocksDown.append(_DenseBlock(channels, growth_rate, layers, drop_factor))
            channels += layers * growth_rate
            skips.append(channels)
            self.transDownBlocks.append(_down(channels, drop_factor, factor))
        bottom = _DenseBlock(channels, growth_rate, bottleneck_layers, drop_factor, only_new=True)
        self.bottleneck = nn.Sequential(OrderedDict(bottleneck=bottom))
        channels = bottleneck_layers * growth_rate

        self.transUpBlocks, self.denseBlocksUp = nn.ModuleList(), nn.ModuleList()
        for level, layers in enumerate(up_blocks):
            last = level == len(up_blocks) - 1
            self.transUpBlocks.append(_Up(channels, pool_factors[-1 - level]))
            joined = channels + skips[-1 - level]
            self.denseBlocksUp.append(_DenseBlock(joined, growth_rate, layers, drop_factor, only_new=not last))
            channels = layers * growth_rate + (joined if last else 0)
        self.finalConv = nn.Conv2d(channels, out_channels * unshuffle**2, 1)

    def forward(self, x):
        """(batch, in_channels, rows, cols) -> (batch, out_channels, rows, cols)."""
        if self.unshuffle > 1:
            x = nn.functional.pixel_unshuffle(x, self.unshuffle)
        x = self.bn_layer(self.firstconv(x))
        skips = []
        for block, down in zip(self.denseBlocksDown, self.transDownBlocks, strict=True):
            skips.append(block(x))
            x = down(skips[-1])
        x = self.bottleneck(x)
        for up, block in zip(self.transUpBlocks, self.denseBlocksUp, strict=True):
            x = block(up(x, skips.pop()))
        x = self.finalConv(x)
        return nn.functional.pixel_shuffle(x, self.unshuffle) if self.unshuffle > 1 else x


class _DenseBlock(nn.Module):
    """Layers each of which sees the input and all outputs before; gives all of that, or with only_new the outputs."""

    def __init__(self, channels, growth, layers, drop, only_new=False):
        super().__init__()
        self.skip = channels if only_new else 0
        self.layers = nn.ModuleList(_layer(channels + i * growth, growth, 3, drop) for i in range(layers))

    def forward(self, x):
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x[:, self.skip :]


class _Up(nn.Module):
    """A transposed convolution to the size of the skip connection, cut to it about the centre, and joined with it."""

    def __init__(self, channels, factor):
        super().__init__()
        self.convTrans = nn.ConvTranspose2d(channels, channels, 3, stride=factor)

    def forward(self, x, skip):
        x = self.convTrans(x)
        for dim in (2, 3):
            x = x.narrow(dim, (x.shape[dim] - skip.shape[dim]) // 2, skip.shape[dim])
        return torch.cat([x, skip], 1)


def _layer(channels, out, size, drop, **more):
    """Normalise, rectify, convolve, drop."""
    steps = OrderedDict(
        bn=nn.BatchNorm2d(channels),
        relu=nn.ReLU(inplace=True),
        conv=nn.Conv2d(channels, out, size, padding=size // 2),
        drop=nn.Dropout2d(drop),
    )
    return nn.Sequential(steps | more)


def _down(channels, drop, factor):
    """The same with a convolution of one pixel, then the maxima of squares."""
    return _layer(channels, channels, 1, drop, maxpool=nn.MaxPool2d(factor))
