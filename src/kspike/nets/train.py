# SPDX-License-Identifier: MIT
"""Training: endless ellipses, noisy samples, Adam; a checkpoint that can be killed at any step and gone on from."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import time
from typing import Any

import numpy as np
import torch

from kspike import door, metrics, phantoms, sampling
from kspike.nets import checkpoint
from kspike.nets.ellipses import ellipses

__all__ = ["Recipe", "evaluate", "train"]

LOSSES = ("mse", "relative")
HELD_OUT = 2**40  # the seed of `kspike.ellipses` whose images are validated on; training draws them otherwise
NOISE = 0.14  # of ||y||, the second level that is validated


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is trained and how. It ends after `steps`, or after `minutes` of training; give one of the two."""

    kind: str = "tira"
    """"tira" or "tirafl"."""
    subnet: str = "Tiramisu"
    """"Tiramisu" or "UNet"."""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Arguments of the subnet."""
    size: int = 256
    """Of the square images."""
    lines: int = 40
    """Radial lines that are sampled."""
    steps: int | None = None
    minutes: float | None = None
    batch: int = 4
    """Images of one forward pass."""
    accumulate: int = 1
    """Forward passes of one step."""
    lr: float = 2e-3
    """Adam's at its highest; it rises linearly over `warmup` steps and falls to 0 as half a cosine."""
    warmup: int = 50
    clip: float = 1.0
    """Of the gradient's l2 norm."""
    jitter: float = 0.2
    """The noise of a training image is uniform on [0, jitter] ||y||."""
    loss: str = "relative"
    """"mse": sum (|x| - truth)^2 over the images; "relative": each image's over that of its zero-filled inverse."""
    zero_last: bool = True
    """Begin with a last convolution of zeros, so that the first output is the inverter's."""
    seed: int = 0

    def __post_init__(self):
        if (self.steps is None) == (self.minutes is None):
            raise TypeError(f"steps, minutes: expected exactly one, got {self.steps!r} and {self.minutes!r}")
        if self.loss not in LOSSES:
            raise ValueError(f"loss: expected one of {', '.join(LOSSES)}, got {self.loss!r}")
        for name in ("size", "lines", "batch", "accumulate", "warmup"):
            door.whole(name, getattr(self, name), 1)
        for name in ("lr", "clip"):
            door.number(name, getattr(self, name), 0)
        door.number("jitter", self.jitter, 0, closed=True)
        door.whole("seed", self.seed, 0)

    @property
    def network(self):
        """The arguments of `build` but the mask."""
        return {"kind": self.kind, "subnet": self.subnet, "options": self.options}

    def same(self, other):
        """Whether another recipe differs in its end only."""
        end = dict(steps=1, minutes=None)
        return dataclasses.replace(self, **end) == dataclasses.replace(other, **end)


def train(recipe, out, *, start=None, device="cpu", every=200, keep=60.0, images=16, progress=None):
    """Train a network; go on where OUT.state left off, if it is there. The network, which OUT holds in half precision.

    A run of `steps` that was killed and gone on with gives the weights of one that was not, bit for bit, on the same
    machine and with the same threads: data and noise of a step come from (seed, step) alone. On CPU and CUDA forward
    passes run in bfloat16, channels last; weights and optimiser are in single precision.

    Parameters
    ----------
    recipe : `Recipe`; that of OUT.state may differ in steps and minutes only
    out : the file of the checkpoint; beside it OUT.state, to go on from, at most `keep` seconds old
    start : a checkpoint whose weights are begun with, as far as names and shapes agree
    every : steps from one validation to the next
    images : how many are validated on
    progress : called as progress(row), a dict of the history, after each validation, and as progress(step=, share=,
        loss=) after each step
    """
    mask = sampling.radial_mask((recipe.size, recipe.size), recipe.lines)
    torch.manual_seed(recipe.seed)
    net = checkpoint.build(mask, **recipe.network).to(device=device, memory_format=torch.channels_last)
    if recipe.zero_last:
        last = net.subnet.finalConv if recipe.subnet == "Tiramisu" else net.subnet.outconv
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
    if start is not None:
        _begin_with(net, start)
    parameters = [p for p in net.parameters() if p.requires_grad]
    adam = torch.optim.Adam(parameters, lr=recipe.lr, fused=True)
    step, seconds, history = 0, 0.0, []
    if os.path.exists(f"{out}.state"):
        step, seconds, history = _go_on(net, adam, recipe, f"{out}.state")

    began = saved = time.monotonic() - seconds
    while (share := _share(recipe, step, time.monotonic() - began)) < 1:
        for group in adam.param_groups:
            group["lr"] = recipe.lr * min(1, (step + 1) / recipe.warmup) * (1 + math.cos(math.pi * share)) / 2
        net.train()
        loss = _step(net, recipe, step, device)
        torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
        adam.step()
        adam.zero_grad(set_to_none=True)
        step += 1
        if not math.isfinite(loss):
            raise ValueError(f"the loss of step {step} is {loss}: train with a smaller lr than {recipe.lr:g}")
        if progress is not None:
            progress(step=step, share=share, loss=loss)
        now = time.monotonic()
        if step % every == 0:
            row = {"step": step, "images": step * recipe.batch * recipe.accumulate, "seconds": round(now - began, 1)}
            history.append(row | {"loss": loss, "lr": group["lr"]} | evaluate(net, images))
            if progress is not None:
                progress(history[-1])
        if step % every == 0 or now - saved > keep:
            _keep(net, adam, recipe, f"{out}.state", step, now - began, history)
            saved = now
    _keep(net, adam, recipe, f"{out}.state", step, time.monotonic() - began, history)
    final = evaluate(net, 4 * images)
    provenance = {
        "recipe": dataclasses.asdict(recipe),
        "trained": {"steps": step, "images": step * recipe.batch * recipe.accumulate}
        | {"seconds": round(time.monotonic() - began, 1), "start": None if start is None else str(start)},
        "validation": final | {"images": 4 * images, "noise": NOISE},
        "history": history,
        "versions": {"torch": str(torch.__version__), "numpy": np.__version__, "python": platform.python_version()},
        "machine": platform.machine(),
        "device": str(device),
    }
    checkpoint.save(net, out, recipe.network, provenance)
    return checkpoint.load(out, device)


def evaluate(net, count, noise=NOISE):
    """Mean PSNR and SSIM on held-out images, clean and with Gaussian noise, and by how much PSNR beats zero-filling."""
    truth = phantoms.ellipses(net.mask.shape, seed=HELD_OUT, count=count)
    device = net.lam[0].device
    y = net.A(torch.from_numpy(truth).to(device, torch.complex64))
    generator = torch.Generator().manual_seed(0)
    e = torch.randn(y.shape, dtype=y.dtype, generator=generator).to(device)
    found = {}
    net.eval()
    for name, level in (("clean", 0.0), ("noisy", noise)):
        samples = y + level * y.norm(dim=-1, keepdim=True) * e / e.norm(dim=-1, keepdim=True)
        with torch.no_grad():
            x = torch.cat([net(part) for part in samples.split(4)]).abs().cpu().numpy()
            filled = net.A.adjoint(samples).abs().cpu().numpy()
        psnr = metrics.psnr(x, truth)
        found[f"psnr_{name}"] = round(float(psnr.mean()), 3)
        found[f"gain_{name}"] = round(float((psnr - metrics.psnr(filled, truth)).mean()), 3)
        found[f"ssim_{name}"] = round(float(metrics.ssim(x, truth).mean()), 4)
    return found


def _step(net, recipe, step, device):
    """The gradients of one step, and its loss."""
    total = 0.0
    for part in range(recipe.accumulate):
        seed = (recipe.seed * 2**20 + step) * 2**10 + part
        truth = ellipses(recipe.batch, net.mask.shape, seed=seed, device=device)
        y = net.A(truth.to(torch.complex64))
        generator = torch.Generator(device).manual_seed(seed + 2**62)
        e = torch.randn(y.shape, dtype=y.dtype, generator=generator, device=device)
        level = recipe.jitter * torch.rand(len(y), 1, generator=generator, device=device)
        y = y + level * y.norm(dim=-1, keepdim=True) * e / e.norm(dim=-1, keepdim=True)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            x = net(y)
        errors = (x.abs() - truth).square().sum((-2, -1))
        if recipe.loss == "relative":
            errors = errors / (net.A.adjoint(y).abs() - truth).square().sum((-2, -1))
        loss = errors.mean() / recipe.accumulate
        loss.backward()
        total += loss.item()
    return total


def _share(recipe, step, seconds):
    """How much of the training is done."""
    return step / recipe.steps if recipe.minutes is None else seconds / (60 * recipe.minutes)


def _begin_with(net, start):
    """The weights of another network, where names and shapes agree."""
    state, own = checkpoint.load(start).state_dict(), net.state_dict()
    net.load_state_dict(own | {name: t for name, t in state.items() if name in own and t.shape == own[name].shape})


def _keep(net, adam, recipe, path, step, seconds, history):
    """Everything that training goes on from."""
    tensors = {f"net.{name}": t for name, t in net.state_dict().items()}
    for i, state in adam.state_dict()["state"].items():
        tensors |= {f"adam.{i}.{name}": t for name, t in state.items()}
    header = {"recipe": dataclasses.asdict(recipe), "step": step, "seconds": seconds, "history": history}
    checkpoint.write(path, tensors, header)


def _go_on(net, adam, recipe, path):
    """Put back what `_keep` wrote: step, seconds, history."""
    tensors, header = checkpoint.read(path)
    if not recipe.same(Recipe(**header["recipe"])):
        raise ValueError(
            f"{path}: expected the state of {dataclasses.asdict(recipe)}, got that of {header['recipe']}; delete the "
            "file to begin anew"
        )
    net.load_state_dict({name[4:]: t for name, t in tensors.items() if name.startswith("net.")})
    parameters = adam.param_groups[0]["params"]
    state = {}
    for name, t in tensors.items():
        if name.startswith("adam."):
            _, i, what = name.split(".")
            if t.ndim:  # in the memory format of its parameter: the fused Adam walks through both as they lie
                t = torch.empty_like(parameters[int(i)]).copy_(t)
            state.setdefault(int(i), {})[what] = t
    adam.load_state_dict({"state": state, "param_groups": adam.state_dict()["param_groups"]})
    return header["step"], header["seconds"], header["history"]
