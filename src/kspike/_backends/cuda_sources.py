# SPDX-License-Identifier: MIT
"""The CUDA sources as one text each, and the sizes they are compiled and launched with. Imports no CuPy.

The sizes were chosen by the compiler's report of registers, see tests/cuda/nvrtc.py: no spills, and in complex64 at
least half of a multiprocessor's threads at work. Their speed is for `bench/gpu.py` to tell.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import pathlib
import re
from typing import NamedTuple

import numpy as np

__all__ = ["Sizes", "built", "configurations", "launch_sizes", "options", "source"]

BUILT = pathlib.Path(__file__).with_name("cuda_built")
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
SHARED = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}  # bytes a block may have, by compute capability
DTYPES = ("complex64", "complex128")

# kind, dtype -> length -> how a pass is cut up.
# For plain transforms of rows, "lines": (elements a thread, lines a block, blocks a multiprocessor);
# for columns: (elements a thread, columns a block, blocks a multiprocessor);
# for the pass over rows: (elements a thread, rows a block owns, pixels at once, blocks a multiprocessor).
Table = dict[tuple[str, str], dict[int, tuple[int, ...]]]
SIZES: Table = {
    ("lines", "complex64"): {**{n: (8, 2048 // n, 4) for n in LENGTHS[:-1]}, 4096: (8, 1, 2)},
    ("lines", "complex128"): {**{n: (8, 1024 // n, 4) for n in LENGTHS[:-2]}, 2048: (8, 1, 2), 4096: (8, 1, 1)},
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
# Where a block may have less shared memory than the above takes: one row a block.
SMALL: Table = {("rows", "complex64"): {4096: (16, 1, 4, 1)}}
# From compute capability 10.0 on, the compiler pairs operations in single precision, which takes more registers.
PAIRED: Table = {
    ("cols", "complex64"): {128: (8, 16, 4), 256: (8, 8, 4), 512: (8, 4, 3), 4096: (8, 2, 1)},
    ("rows", "complex64"): {4096: (16, 2, 1, 1)},
}


class Sizes(NamedTuple):
    """How the passes of one length are launched and compiled."""

    block: tuple[int, int]
    shared: int
    """Bytes of shared memory of a block."""
    covers: int
    """Lines or columns of a block, or rows that it owns."""
    defines: tuple[tuple[str, int], ...]


def launch_sizes(kind, n, dtype, capability=90, limit=227 << 10):
    """The `Sizes` of a kind of passes of length n, or None where there are none within `limit` bytes of shared memory.

    capability : the compute capability, 90 for 9.0
    """
    key = kind, np.dtype(dtype).name
    tables = (PAIRED if capability >= 100 else {}), SIZES, SMALL
    for entry in (table.get(key, {}).get(n) for table in tables):
        sizes = entry and _sizes(kind, n, np.dtype(dtype), entry)
        if sizes and sizes.shared <= limit:
            return sizes
    return None


def _sizes(kind, n, dtype, entry):
    line = n + n // 16  # one element of padding after 16
    per, covers, *at_once, blocks = entry
    defines = {"KS_N": n, "KS_PER": per, "KS_BLOCKS": blocks}
    block, lines = (n // per, covers), covers
    if kind == "lines":
        defines |= {"KS_LINES": covers}
    elif kind == "cols":
        line = -(-line // 16) * 16 + max(1, 16 // covers)  # neighbouring columns begin in different banks
        block = block[::-1]
        defines |= {"KS_COLS": covers}
    else:
        block, lines = (n // per, covers + 2), 2 * covers + 2
        defines |= {"KS_ROWS": covers, "KS_AT_ONCE": at_once[0]}
    return Sizes(block, lines * line * dtype.itemsize, covers, (*defines.items(), ("KS_LINE", line)))


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
    defines = {"KS_DOUBLE": int(np.dtype(dtype) == np.complex128), **dict(defines)}
    return ("-std=c++17", *(f"-D{name}={value}" for name, value in defines.items()))


def configurations(capability):
    """All that the engine compiles for a compute capability of SHARED: (file, dtype, Sizes)."""
    for dtype in DTYPES:
        for file in ("stencil.cu", "kspace.cu"):
            yield file, dtype, Sizes((32, 8), 0, 1, ())
        yield "reduce.cu", dtype, Sizes((256, 1), 4096, 1, ())
        for group in (2, 4):
            yield "norms.cu", dtype, Sizes((32, 8), 0, 1, (("KS_GROUP", group),))
        for kind in ("lines", "cols", "rows"):
            for n in LENGTHS:
                sizes = launch_sizes(kind, n, dtype, capability, SHARED[capability])
                if sizes is not None:
                    yield f"{kind}.cu", dtype, sizes


def key(file, dtype, defines):
    """The name under which a compiled file is kept: a hash of text and options is in it, so that none is stale."""
    text = "\0".join([source(file), *options(dtype, defines)])
    return f"{file.removesuffix('.cu')}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.fatbin"


def built(file, dtype, defines, capability):
    """The path of what `cuda_build` compiled ahead of time for this device and these very sources, or None."""
    if capability < min(SHARED):
        return None
    path = BUILT / key(file, dtype, defines)
    return path if path.exists() else None
