# SPDX-License-Identifier: MIT
"""`kspike info`: what is installed, and which engines run here."""

from __future__ import annotations

import importlib.metadata
import platform

import numpy as np

from kspike._backends import ENGINES, select
from kspike.cli.options import cores, version

__all__ = ["add"]

EXTRAS = ("h5py", "matplotlib", "pillow", "scipy", "tqdm")


def add(commands):
    """Add the command to the parser."""
    command = commands.add_parser("info", help="what is installed, and which engines run here", allow_abbrev=False)
    command.set_defaults(run=_info)


def _info(_):
    print(f"kspike {version()}, Python {platform.python_version()}, NumPy {np.__version__}, {platform.platform()}")
    print(f"cores    {cores()} for this process")
    for name in ENGINES:
        try:
            isa = getattr(select(name), "ISA", None)
            state = f"available{f', {isa}' if isa else ''}"
        except (ImportError, OSError, RuntimeError) as error:  # what broken installations raise
            state = " ".join(str(error).split())
        print(f"engine   {name:<10} {state}")
    for name in EXTRAS:
        try:
            state = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            state = "not installed"
        print(f"package  {name:<10} {state}")
