# SPDX-License-Identifier: MIT
"""Endless training images: the random ellipses of `kspike.ellipses`, drawn in batches on the device that trains."""

from __future__ import annotations

import math

import torch

__all__ = ["ellipses"]

NUMBER, SEMI_AXES, MARGIN, MARGIN_AXIS, SLOPE, BIAS = (7, 14), (0.05, 0.45), 0.3, 0.9, 0.9, (0.3, 1.0)
DRAWS = 64  # linear pieces an ellipse chooses from; that none is non-negative has a probability below 1e-9


def ellipses(count, shape, *, seed, device="cpu"):
    """A batch of images of the law of `kspike.ellipses`: float32 (count, rows, cols) in [0, 1].

    The numbers come from a generator of `device` seeded with `seed`, so that a batch depends on nothing else; they are
    not those of `kspike.ellipses` with that seed. An image whose ellipses hold no pixel, rarer than one in 1e6 from
    32 x 32 on, stays zero.
    """
    generator = torch.Generator(device).manual_seed(seed)
    most = NUMBER[1]

    def uniform(low, high, *size):
        return low + (high - low) * torch.rand(count, most, *size, generator=generator, device=device)

    number = torch.randint(NUMBER[0], most + 1, (count, 1), generator=generator, device=device)
    centre = (1 - MARGIN) * uniform(-1, 1, 2)
    room = MARGIN_AXIS * (1 - centre.abs().amax(-1, keepdim=True))
    axes = torch.minimum(uniform(*SEMI_AXES, 2), room)
    turn = uniform(0, math.pi / 2)
    cos, sin = turn.cos(), turn.sin()
    slope = SLOPE * torch.randn(count, most, DRAWS, 2, generator=generator, device=device)
    bias = uniform(*BIAS, DRAWS)

    along = torch.stack(
        [
            cos[..., None] * slope[..., 0] + sin[..., None] * slope[..., 1],
            cos[..., None] * slope[..., 1] - sin[..., None] * slope[..., 0],
        ],
        -1,
    )
    least = (slope @ centre[..., None]).squeeze(-1) + bias - (axes[..., None, :] * along).norm(dim=-1)
    chosen = (least >= 0).float().argmax(-1, keepdim=True)  # the first that is non-negative on the whole ellipse
    valid = (least.gather(-1, chosen) >= 0).float()
    slope = slope.gather(-2, chosen[..., None].expand(-1, -1, 1, 2)).squeeze(-2) * valid
    bias = bias.gather(-1, chosen).squeeze(-1) * (torch.arange(most, device=device) < number)
    slope = slope * (torch.arange(most, device=device) < number)[..., None]

    grid = [torch.linspace(-1, 1, n, device=device) if n > 1 else torch.zeros(1, device=device) for n in shape]
    rows, cols = grid[0] - centre[..., :1], grid[1] - centre[..., 1:]
    first = _plane(cos / axes[..., 0], rows, sin / axes[..., 0], cols)
    second = _plane(-sin / axes[..., 1], rows, cos / axes[..., 1], cols)
    value = _plane(slope[..., 0], grid[0], slope[..., 1], grid[1]) + bias[..., None, None]
    image = (value * (first.square_() + second.square_() <= 1)).sum(1)
    return image / image.amax((-2, -1), keepdim=True).clamp_min(1e-12)


def _plane(a, rows, b, cols):
    """a rows + b cols on the pixels: (batch, ellipses, rows, cols)."""
    return (a[..., None] * rows)[..., None] + (b[..., None] * cols)[..., None, :]
