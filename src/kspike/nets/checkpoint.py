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

from kspike import files
from kspike.nets.inverse import LearnedInverse, ZeroFilled
from kspike.nets.iterative import IterativeNet
from kspike.nets.tiramisu import Tiramisu
from kspike.nets.unet import UNet

__all__ = ["KINDS", "build", "bundled", "load", "read", "save", "write"]

WEIGHTS = pathlib.Path(__file__).parent / "weights"
SUBNETS = {"Tiramisu": Tiramisu, "UNet": UNet}
KINDS = ("tira", "tirafl")
FORMAT = 1
LAYERS = 2**14  # more than the whole numbers of a network's description add up to


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
    if not isinstance(header, dict) or header.get("format") != FORMAT or "mask" not in tensors:
        came = sorted(header)[:8] if isinstance(header, dict) else "no table"
        raise ValueError(f"{path}: expected a checkpoint of kspike.nets in format {FORMAT}, got {came}")
    state = {name: t.float() if t.is_floating_point() else t for name, t in tensors.items() if name != "mask"}
    try:
        mask, network = tensors["mask"].numpy().astype(bool), header["network"]
        if _total(network) > LAYERS:
            raise ValueError(f"network: expected whole numbers that add up to at most {LAYERS}")
        with torch.device("meta"):  # takes no memory, whatever the header says
            expected = build(mask, **network).state_dict()
        if {name: t.shape for name, t in expected.items()} != {name: t.shape for name, t in state.items()}:
            raise ValueError("tensors: expected those of the network in the header, got others")
        net = build(mask, **network)
        net.load_state_dict(state)
    except files.broken() as error:
        raise ValueError(f"{path}: expected a network of kspike.nets, got {files.one_line(error)}") from None
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
    except (*files.broken(), safetensors.SafetensorError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path}: expected a safetensors file, got {files.one_line(error)}") from None


def _total(value):
    """The sum of all whole numbers in a description."""
    if isinstance(value, dict | list):
        return sum(_total(inner) for inner in (value.values() if isinstance(value, dict) else value))
    return abs(value) if isinstance(value, int) else 0


def write(path, tensors, header):
    """Write tensors and header under a temporary name, force it to the disk, then give it its name."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    data = safetensors.torch.save(tensors, {"kspike": json.dumps(header)})
    files.whole(path, lambda file: file.write(data), f"{os.path.basename(path)}.partial")
