# SPDX-License-Identifier: MIT
"""Networks as files: safetensors with the weights, the mask and, as JSON in the header, what they are and came from."""

from __future__ import annotations

import json
import os
import pathlib

import numpy as np
import safetensors
import safetensors.torch
import torch

from kspike.nets.inverse import LearnedInverse, ZeroFilled
from kspike.nets.iterative import IterativeNet
from kspike.nets.tiramisu import Tiramisu
from kspike.nets.unet import UNet

__all__ = ["KINDS", "build", "bundled", "load", "read", "save", "write"]

WEIGHTS = pathlib.Path(__file__).parent / "weights"
SUBNETS = {"Tiramisu": Tiramisu, "UNet": UNet}
KINDS = ("tira", "tirafl")
FORMAT = 1


def build(mask, kind="tira", *, subnet="Tiramisu", options=None, **steps):
    """A network with random weights from plain words, as a checkpoint's header has them.

    Parameters
    ----------
    mask : bool array (rows, cols)
    kind : "tira", zero-filling and the subnet, or "tirafl", a learned inverse transform and the subnet
    subnet : "Tiramisu" or "UNet"
    options : arguments of the subnet
    steps : arguments of `IterativeNet`
    """
    if kind not in KINDS or subnet not in SUBNETS:
        raise ValueError(
            f"kind, subnet: expected one of {', '.join(KINDS)} and of {', '.join(SUBNETS)}, got {kind!r} and {subnet!r}"
        )
    inverter = ZeroFilled(mask) if kind == "tira" else LearnedInverse(mask)
    return IterativeNet(SUBNETS[subnet](**(options or {})), inverter, mask, **steps)


def bundled():
    """The names of the checkpoints that come with the package, for `load`."""
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def load(checkpoint, device="cpu"):
    """The network of a checkpoint, in evaluation mode and single precision; `net.provenance` is what its header says.

    checkpoint : the path of a file that `save` wrote, or a name out of `bundled()`, such as "tira-128"
    """
    path = pathlib.Path(checkpoint)
    if not path.suffix and not path.is_file():
        path = WEIGHTS / f"{checkpoint}.safetensors"
        if not path.is_file():
            raise ValueError(f"checkpoint: expected a file or one of {', '.join(bundled())}, got {str(checkpoint)!r}")
    tensors, header = read(path)
    if header.get("format") != FORMAT or "mask" not in tensors:
        raise ValueError(f"{path}: expected a checkpoint of kspike.nets in format {FORMAT}, got {sorted(header)[:8]}")
    mask = tensors.pop("mask").numpy().astype(bool)
    net = build(mask, **header["network"])
    state = {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
    net.load_state_dict(state)
    net.provenance = header
    return net.to(device).eval()


def save(net, path, network, provenance):
    """Write a network's weights in half precision, its mask and where it is from; the file is whole or not there.

    network : what `build` makes it of; provenance : anything JSON can hold. Statistics of normalisations keep single
    precision: their range is larger.
    """
    tensors = {"mask": torch.from_numpy(np.asarray(net.mask, np.uint8))}
    for name, t in net.state_dict().items():
        kept = "running" in name or not t.is_floating_point()
        tensors[name] = t if kept else t.half()
    write(path, tensors, {"format": FORMAT, "network": network, **provenance})


def read(path):
    """The tensors of a safetensors file by name, and its JSON header."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("kspike", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, header
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: expected a safetensors file, got {error}") from None


def write(path, tensors, header):
    """Write tensors and header under a temporary name, force it to the disk, then give it its name."""
    path, partial = os.fspath(path), f"{os.fspath(path)}.partial"
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    data = safetensors.torch.save(tensors, {"kspike": json.dumps(header)})
    with open(partial, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
