# SPDX-License-Identifier: MIT
"""The CUDA sources as one text each, and the sizes they are compiled and launched with. Imports no CuPy.

The sizes were chosen by the compiler's report of registers, see tests/cuda/nvrtc.py: no spills, and in complex64 at
least half of a multiprocessor's threads at work. Their speed is for `bench/gpu.py` to tell.
"""

from __future__ import annotations

import importlib.resources
import re
from typing import NamedTuple

import numpy as np

__all__ = ["Sizes", "launch_sizes", "options", "source"]

# kind, dtype -> length -> how a pass is cut up.
# For columns: (elements a thread, columns a block, blocks a multiprocessor);
# for rows: (elements a thread, rows a block owns, pixels at once, blocks a multiprocessor).
SIZES: dict[tuple[str, str], dict[int, tuple[int, ...]]] = {
    ("cols", "complex64"): {
        64: (8, 32, 4),
        128: (8, 16, 5),
        256: (8, 8, 5),
        512: (8, 8, 2),
        1024: (8, 4, 2),
        2048: (8, 4, 1),
        4096: (16, 4, 1),
    },
    ("rows", "complex64"): {
        64: (8, 14, 2, 8),
        128: (8, 14, 2, 4),
        256: (8, 6, 2, 4),
        512: (8, 6, 2, 2),
        1024: (8, 6, 2, 1),
        2048: (8, 2, 2, 1),
        4096: (16, 2, 4, 1),
    },
    ("cols", "complex128"): {
        64: (8, 16, 4),
        128: (8, 8, 4),
        256: (8, 8, 2),
        512: (8, 4, 2),
        1024: (8, 4, 1),
        2048: (8, 2, 1),
        4096: (8, 1, 1),
    },
    ("rows", "complex128"): {
        64: (8, 14, 2, 4),
        128: (8, 6, 2, 4),
        256: (8, 6, 2, 2),
        512: (8, 6, 2, 1),
        1024: (8, 2, 2, 1),
        2048: (8, 1, 2, 1),
    },
}
# From compute capability 10.0 on, the compiler pairs operations in single precision, which takes more registers.
PAIRED = {
    ("cols", "complex64"): {128: (8, 16, 4), 256: (8, 8, 4), 512: (8, 4, 3), 4096: (8, 2, 1)},
    ("rows", "complex64"): {4096: (16, 2, 1, 1)},
}


class Sizes(NamedTuple):
    """How the passes of one length are launched and compiled."""

    block: tuple[int, int]
    shared: int
    """Bytes of shared memory of a block."""
    covers: int
    """Columns of a block, or rows that it owns."""
    defines: tuple[tuple[str, int], ...]


def launch_sizes(kind, n, dtype, capability=90):
    """The `Sizes` of the "cols" or "rows" passes of length n, for a compute capability (90 is 9.0), or None."""
    key = kind, np.dtype(dtype).name
    entry = (capability >= 100 and PAIRED.get(key, {}).get(n)) or SIZES[key].get(n)
    if entry is None:
        return None
    line = n + n // 16  # one element of padding after 16
    if kind == "cols":
        per, columns, blocks = entry
        line = -(-line // 16) * 16 + max(1, 16 // columns)  # neighbouring columns begin in different banks
        block, lines, count, own = (columns, n // per), columns, columns, {"KS_COLS": columns}
    else:
        per, rows, at_once, blocks = entry
        block, lines, count = (n // per, rows + 2), 2 * rows + 2, rows
        own = {"KS_ROWS": rows, "KS_AT_ONCE": at_once}
    defines = {"KS_N": n, "KS_PER": per, "KS_LINE": line, "KS_BLOCKS": blocks, **own}
    return Sizes(block, lines * line * np.dtype(dtype).itemsize, count, tuple(defines.items()))


def source(name, seen=None):
    """A file of `csrc` with the files it includes put in place, each once, so that CuPy's cache sees every change."""
    seen = {name} if seen is None else seen
    text = importlib.resources.files("kspike._csrc").joinpath(name).read_text()
    parts = [f'#line 1 "{name}"']
    for number, line in enumerate(text.splitlines(), 1):
        include = re.fullmatch(r'#include "(.*)"', line)
        if include and include[1] not in seen:
            seen.add(include[1])
            parts += [source(include[1], seen), f'#line {number + 1} "{name}"']
        else:
            parts.append("" if include or line == "#pragma once" else line)
    return "\n".join(parts)


def options(dtype, defines):
    """What the compiler is told: the precision and the sizes of `launch_sizes`."""
    defines = {"KS_DOUBLE": int(np.dtype(dtype) == np.complex128), **defines}
    return ("-std=c++17", *(f"-D{name}={value}" for name, value in defines.items()))
