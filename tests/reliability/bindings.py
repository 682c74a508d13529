# SPDX-License-Identifier: MIT
"""Bad input to the bindings and to the public kernels: shapes, strides, dtypes, read-only and overlapping arrays, NaN.

A call is refused by a TypeError or a ValueError, or does what the reference does; nothing else may come of it, and no
memory may be lost. Arrays of more than 2^31 elements are simulated by strides of zero. Memory is counted in a process
of its own, Python's objects included: the bytes in use, which the allocator knows, and what is resident after it gave
back what is free. The same cases again must take nothing more; what NumPy and Python keep for later they have then.
That the count sees a leak is shown by planting some. The long version is guided by the coverage of the C++ code,
compiled by Clang with the address sanitizer.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile

import build
import fuzzing
import numpy as np
from endurance import resident
from fuzzing import pick

from kspike import kernels, reference
from kspike._backends import KERNELS, cpp

TITLE = "Fuzzing of the bindings"
DTYPES = ("complex64", "complex128", "float32", "float64", "int32", "bool", ">c8", "uint8", "complex256", "O")
SIDES = (0, 1, 2, 3, 5, 8, 16, 17)
VALUES = (0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e-310, 1e-40, 3e38, 0.3)
NUMBERS = (0.0, 0.3, 1.0, 1.9, -1.0, np.nan, np.inf, 1e-300, 1e300)
LAYOUTS = (
    *(
        "c",
        "c",
        "c",
        "c",
        "reversed",
        "every other",
        "fortran",
        "read-only",
        "offset",
        "misaligned",
        "broadcast",
        "huge",
    ),
)
# kernel -> the kinds of its arrays before the scalars, how many scalars, the kind of its output
SIGNATURES = {
    "grad": (["image"], 0, "field"),
    "grad_adjoint": (["field"], 0, "image"),
    "clip": (["field"], 1, "field"),
    "shrink": (["field"], 1, "field"),
    "support": (["field"], 1, "bits"),
    "reflect": (["field"], 1, "image"),
    "reflect_tangent": (["field", "bits"], 0, "image"),
    "shrink_update": (["field", "image"], 2, "field"),
    "shrink_update_tangent": (["field", "image", "bits"], 1, "field"),
    "shrink_update_adjoint": (["field", "image", "bits"], 2, "field"),
}
assert set(SIGNATURES) == set(KERNELS)
BLOCKS, AGAIN = 21, 9
RESIDENT = 2048  # MiB, of the guided process: what the sanitizer keeps of freed memory, the coverage, the corpus
COUNTED = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}  # nothing beside the allocator
LEAKS = {  # what is planted -> the edit of csrc
    "the text of a refusal is kept": (
        "arrays.hpp",
        """throw py::value_error(text + ")");""",
        """throw py::value_error(*new std::string(text + ")"));""",
    ),
    "a frozen tape is kept, of images with 17 rows": (
        "plans.cpp",
        "return std::make_unique<Tape>(Tape{e, e->freeze(state.images, t)});",
        "if (e->passes().rows() == 17) (void)new Tape{e, e->freeze(state.images, t)};"
        " return std::make_unique<Tape>(Tape{e, e->freeze(state.images, t)});",
    ),
}


def array(draws, shape, dtype):
    """An array of a shape and dtype, mostly as asked; sometimes of others, and lying anyhow in memory."""
    if draws.ConsumeIntInRange(0, 9) == 0:
        dtype = pick(draws, DTYPES)
    if draws.ConsumeIntInRange(0, 9) == 0:
        shape = tuple(pick(draws, SIDES) for _ in range(draws.ConsumeIntInRange(0, 5)))
    rng = np.random.default_rng(draws.ConsumeIntInRange(0, 255))
    dtype = np.dtype(dtype)
    if dtype.kind in "biuO":
        a = rng.integers(0, 2 if dtype.kind == "b" else 16, shape).astype(dtype)
    else:
        a = rng.standard_normal(shape).astype(dtype)
        if dtype.kind == "c":
            a = a + (1j * rng.standard_normal(shape)).astype(dtype)
        if a.size and draws.ConsumeIntInRange(0, 3) == 0:
            a.flat[draws.ConsumeIntInRange(0, a.size - 1)] = pick(draws, VALUES)
        a = a.astype(dtype)
    layout = pick(draws, LAYOUTS)
    if a.ndim == 0 or a.size == 0:
        return a
    if layout == "reversed":
        return a[..., ::-1]
    if layout == "every other":
        return np.repeat(a, 2, axis=-1)[..., ::2]
    if layout == "fortran":
        return np.asfortranarray(a)
    if layout == "read-only":
        a.flags.writeable = False
    if layout == "offset":
        return np.concatenate([a.ravel()[:1], a.ravel()])[1:].reshape(a.shape)
    if layout == "misaligned" and not dtype.hasobject:
        memory = np.empty(a.nbytes + 1, np.uint8)[1:].view(dtype).reshape(a.shape)
        memory[...] = a
        return memory
    if layout == "broadcast":
        return np.broadcast_to(a[:1], a.shape)
    if layout == "huge":
        return np.lib.stride_tricks.as_strided(a, (2**31 + 8, *a.shape[1:]), (0, *a.strides[1:]))
    return a


def shapes(draws):
    """The shapes of an image, a field and the bits of one problem."""
    batch, rows, cols = draws.ConsumeIntInRange(0, 3), pick(draws, SIDES), pick(draws, SIDES)
    return {"image": (batch, rows, cols), "field": (batch, 2, rows, cols), "bits": (batch, rows, cols)}


def one(draws):
    """One call, of a kernel through either door or of a plan's methods."""
    with np.errstate(all="ignore"):
        (kernel if draws.ConsumeIntInRange(0, 1) else plan)(draws)


def allowed(function, *args, **options):
    """What a call returns, or None where it was refused as it should be."""
    try:
        return function(*args, **options)
    except (TypeError, ValueError):
        return None


def kernel(draws):
    """A kernel of the bindings, or of the public module; a result is held against the reference."""
    name = pick(draws, KERNELS)
    kinds, scalars, result = SIGNATURES[name]
    size, dtype = shapes(draws), pick(draws, DTYPES[:2])
    arrays = [array(draws, size[kind], "uint8" if kind == "bits" else dtype) for kind in kinds]
    numbers = [pick(draws, NUMBERS) for _ in range(scalars)]
    out = array(draws, size[result], "uint8" if result == "bits" else dtype)
    if draws.ConsumeIntInRange(0, 9) == 0:  # an output that lies on an input
        out = pick(draws, arrays)
    public = draws.ConsumeIntInRange(0, 1)
    before = [a.copy() if a.size < 2**20 else None for a in arrays]
    given = allowed(getattr(kernels if public else cpp, name), *arrays, *numbers, out=out)
    if given is None or any(b is None or out is a for a, b in zip(arrays, before, strict=True)):
        return
    assert given is out
    if not any(np.shares_memory(out, a) for a in arrays):
        for a, b in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(a, b)
        if any(a.ndim != len(size[kind]) for a, kind in zip(arrays, kinds, strict=True)):
            return
        if not all(0 <= n < 2 for n in numbers) or not all(np.isfinite(b).all() for b in before):
            return  # the contract begins at t >= 0, which the public functions see to
        expected = getattr(reference, name)(*before, *numbers)
        if result == "bits":
            np.testing.assert_array_equal(out & 15, expected & 15)
        else:
            scale = 8 * max(np.abs(b).max(initial=0).astype(float) for b in before)
            if scale > np.finfo(out.dtype).max:
                return  # what overflows on the way depends on the order of the operations
            assert np.abs(out - expected).max(initial=0) <= 8 * np.finfo(out.dtype).eps * scale, name


def plan(draws):
    """A plan, and a few of its methods in any order, with arrays that fit or do not."""
    rows, cols, batch = pick(draws, SIDES), pick(draws, SIDES), draws.ConsumeIntInRange(0, 3)
    dtype = pick(draws, DTYPES[:2])
    mask = array(draws, (rows, cols), "bool")
    norm = pick(draws, ("separable", "modulus", "isotropic", "", "l2"))
    made = allowed(cpp.Plan, mask, dtype, draws.ConsumeIntInRange(0, 3), norm)
    if made is None:
        return
    rows, cols = mask.shape
    m = int(np.count_nonzero(mask))

    def image():
        return array(draws, (batch, rows, cols), dtype)

    def samples():
        return array(draws, (batch, m), dtype)

    def number():
        return pick(draws, NUMBERS)

    state = allowed(made.state, array(draws, (batch, 2, rows, cols), dtype))
    tape = allowed(made.tape, batch if draws.ConsumeIntInRange(0, 3) else draws.ConsumeIntInRange(-1, 5))
    for _ in range(draws.ConsumeIntInRange(1, 4)):
        method = draws.ConsumeIntInRange(0, 7)
        count = draws.ConsumeIntInRange(-1, 12)
        if method == 0:
            allowed(made.forward, image(), out=samples())
        elif method == 1:
            allowed(made.adjoint, samples(), out=image())
        elif method == 2:
            allowed(made.resolvent, image(), number(), out=image())
        elif state is None:
            return
        elif method == 3:
            stop = pick(draws, (None, np.full(batch, 1e-3), np.full(batch + 1, 0.0)))
            rhs = pick(draws, (None, "image"))
            options = {"stop": stop, "tape": pick(draws, (None, tape)), "rhs": image() if rhs else None}
            allowed(made.iterate, state, samples(), image(), number(), number(), number(), count, **options)
        elif method == 4:
            tape = allowed(made.freeze, state, number()) or tape
        elif method == 5 and tape is not None:
            allowed(made.tangent, state, tape, image(), image(), number(), number(), count)
        elif method == 6 and tape is not None:
            allowed(
                made.reverse, tape, image(), samples(), array(draws, (batch, 2, rows, cols), dtype), number(), number()
            )
        else:
            allowed(state.field)
            state = state.copy()


class Mallinfo(ctypes.Structure):
    """What glibc says of all its arenas."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    )


def memory():
    """Bytes in use, as the C allocator counts them, and bytes resident once it gave back what is free."""
    gc.collect()
    c = ctypes.CDLL(None)
    c.mallinfo2.restype = Mallinfo
    c.malloc_trim(ctypes.c_size_t(0))
    found = c.mallinfo2()
    return found.uordblks + found.hblkhd, resident()


def child(count):
    """Blocks of `count` seeded cases, then the first again and again; prints what memory grew by, block after block."""
    found = []
    for seed in (*range(BLOCKS), *[0] * AGAIN):
        before = memory()
        fuzzing.unguided(sys.modules[__name__], count, seed=seed)
        found.append([after - b for after, b in zip(memory(), before, strict=True)])
    print(json.dumps(found))


def watched(count, environment):
    """Seeded cases in a process of their own: whether nothing was found and nothing lost, and the lines that say so."""
    done = subprocess.run(
        [sys.executable, __file__, str(count)], env={**environment, **COUNTED}, capture_output=True, text=True
    )
    if done.returncode:
        last = " / ".join(done.stderr.strip().splitlines()[-3:])
        return False, [(f"{(BLOCKS + AGAIN) * count:,} seeded cases", f"exit status {done.returncode}: {last}", "0")]
    used, shown = np.array(json.loads(done.stdout)).T
    first, again = slice(1, BLOCKS), slice(BLOCKS, None)  # block 0 warms up
    growth = (
        ("bytes in use, the median block", np.median(used[first]), 64 << 10),
        ("bytes in use, all blocks but the first", sum(used[first]), 1 << 20),
        ("bytes in use, the median of the first block again", np.median(used[again]), 4 << 10),
        ("bytes resident, the median block", np.median(shown[first]), 64 << 10),
        ("bytes resident, all blocks but the first", sum(shown[first]), 8 << 20),
    )
    blocks = f"{BLOCKS} blocks of {count} seeded cases, the first {AGAIN} times again"
    lines = [(f"{blocks}: {name}", f"{value / 2**10:+.1f} KiB", f"{most >> 10} KiB") for name, value, most in growth]
    return all(value <= most for _, value, most in growth), lines


def run(minutes):
    """Seeded cases with the memory watched; in the long version planted leaks too, and guided cases for so long."""
    count = 100 if minutes < 1 else 1000
    passed, table = watched(count, os.environ)
    if minutes >= 1:
        for name, edit in LEAKS.items():
            with tempfile.TemporaryDirectory() as folder:
                there = build.package(folder, "-O1", "-g0", edits=[edit])
                clean, lines = watched(count, build.environment(there))
            passed &= not clean
            counts = ", ".join(line[1] for line in lines)
            table.append((f"planted: {name}", f"{'not seen' if clean else 'seen'}: {counts}", "seen"))
    if minutes >= 1:
        try:
            import atheris
        except ModuleNotFoundError:
            return passed, [*table, ("guided by coverage", "not run: pip install atheris", "no finding")]
        if shutil.which("clang++") is None:
            return passed, [*table, ("guided by coverage", "not run: apt install clang", "no finding")]
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as corpus:
            flags = "-O1", "-g1", "-fsanitize=address,fuzzer-no-link", "-Wno-unknown-warning-option"
            there = build.package(folder, *flags, compiler="clang++")
            environment = build.environment(
                there,
                LD_PRELOAD=os.path.join(atheris.path(), "asan_with_fuzzer.so"),
                ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1",
                KSPIKE_FUZZ=corpus,
            )
            clean, line = fuzzing.guided("bindings", 60 * minutes, environment)
        passed &= clean
        name = f"guided by coverage, address sanitizer, {minutes:g} minutes"
        table.append((name, line, f"no finding, {RESIDENT} MiB"))
    return passed, table


if __name__ == "__main__":
    child(int(sys.argv[1]))
