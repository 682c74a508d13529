# SPDX-License-Identifier: MIT
"""What every test draws on: the engines present, one table of tolerances, seeded inputs, the shapes that hurt."""

import dataclasses
import importlib
import importlib.util
import pathlib
import types

import numpy as np
import pytest

from kspike import _backends

SHAPES = [(1, 1), (1, 6), (7, 1), (2, 2), (5, 7), (8, 12), (16, 16), (17, 31), (30, 23), (32, 48)]
BATCHES = [0, 1, 3]
DTYPES = ["complex64", "complex128"]
DATA = pathlib.Path(__file__).parents[2] / "shared" / "data"

# kind -> (c, why): two results may differ by c * eps * scale, eps that of the engine's precision. Where the rounding of
# the reference counts too, c is a pair: for complex64, which is held against double, and for complex128.
TOLERANCES = {
    "exact": (0, "a selection or a comparison: no rounding is allowed"),
    "stencil": (8, "a sum of at most eight terms, each rounded once or twice"),
    "inner": (16, "a sum of n products: an error of sqrt(n) eps at random, relative to the norms, not to the sum"),
    "transform": (32, "O(log n) stages, each exact to a few eps; Bluestein's detour for primes costs three transforms"),
    "resolvent": (64, "a transform there and back; the smallest rho K lifts the error of the lowest frequencies"),
    "iterate": ((84, 4096), "1e-5 and 1e-12: errors add up in what is not sampled, where only rho K holds them"),
    "derivative": ((64, 1024), "an iteration's errors and those of the sweep that runs it backwards"),
}


def tolerance(kind, dtype):
    """The relative tolerance of a kind of computation in a precision."""
    c, _ = TOLERANCES[kind]
    if isinstance(c, tuple):
        c = c[DTYPES.index(np.dtype(dtype).name)]
    return c * float(np.finfo(dtype).eps)


def assert_close(actual, expected, kind, dtype, scale=None):
    """max |actual - expected| <= tolerance * scale, the scale by default the largest modulus of what is expected."""
    assert actual.shape == expected.shape
    if expected.size == 0:
        return
    scale = np.abs(expected).max() if scale is None else scale
    error = np.abs(actual - expected).max()
    assert error <= tolerance(kind, dtype) * scale, f"{kind}: error {error:.3g} at scale {scale:.3g}"


@dataclasses.dataclass
class Engine:
    """An engine in one precision, spoken to in NumPy arrays wherever its own arrays live."""

    name: str
    module: types.ModuleType
    dtype: np.dtype
    xp: types.ModuleType

    def put(self, array):
        """The array, complex ones in the engine's precision, where the engine wants it; read-only where that exists."""
        array = np.array(array, order="C")
        array = self.xp.asarray(array.astype(self.dtype) if array.dtype.kind == "c" else array)
        if self.xp is np:
            array.flags.writeable = False
        return array

    def get(self, array):
        """Back to NumPy."""
        return array if self.xp is np else self.xp.asnumpy(array)

    def empty(self, shape, dtype=None):
        """An output that is wrong until written: NaN, or all bits set."""
        dtype = np.dtype(dtype or self.dtype)
        return self.xp.full(shape, np.nan if dtype.kind == "c" else 255, dtype)

    def kernel(self, name, *args, shape, dtype=None):
        """Call one kernel into a fresh output: it returns that one, and its inputs survive."""
        given = [self.put(a) if isinstance(a, np.ndarray) else a for a in args]
        before = [self.get(a).copy() if isinstance(b, np.ndarray) else b for a, b in zip(given, args, strict=True)]
        out = self.empty(shape, dtype)
        assert getattr(self.module, name)(*given, out=out) is out
        for a, b in zip(given, before, strict=True):
            if isinstance(b, np.ndarray):
                np.testing.assert_array_equal(self.get(a), b)
        return self.get(out)

    def plan(self, mask, threads=1, norm="separable"):
        """Its plan, wrapped in the same way."""
        return EnginePlan(self, self.module.Plan(mask, self.dtype, threads, norm), mask)


@dataclasses.dataclass
class EnginePlan:
    """A plan spoken to in NumPy arrays: its methods make their outputs and return them in the order of the contract."""

    engine: Engine
    plan: object
    mask: np.ndarray

    def _out(self, method, given, *args, shape):
        out = self.engine.empty((len(given), *shape))
        assert getattr(self.plan, method)(self.engine.put(given), *args, out=out) is out
        return self.engine.get(out)

    def forward(self, x):
        return self._out("forward", x, shape=(int(self.mask.sum()),))

    def adjoint(self, y):
        return self._out("adjoint", y, shape=self.mask.shape)

    def resolvent(self, b, rho):
        return self._out("resolvent", b, rho, shape=self.mask.shape)

    def state(self, w):
        return self.plan.state(self.engine.put(w))

    def field(self, state):
        return self.engine.get(state.field())

    def tape(self, batch):
        return self.plan.tape(batch)

    def freeze(self, state, t):
        return self.plan.freeze(state, t)

    def iterate(self, state, y, t, rho, relax, iterations, stop=None, tape=None, **rhs):
        """-> x, count, change."""
        x = self.engine.empty((len(y), *self.mask.shape))
        stop = None if stop is None else np.asarray(stop, float)
        rhs = {name: self.engine.put(image) for name, image in rhs.items()}
        count, change = self.plan.iterate(
            state, self.engine.put(y), x, t, rho, relax, iterations, stop=stop, tape=tape, **rhs
        )
        return self.engine.get(x), count, change

    def tangent(self, state, tape, g, rho, relax, iterations):
        """-> dx."""
        dx = self.engine.empty(g.shape)
        self.plan.tangent(state, tape, self.engine.put(g), dx, rho, relax, iterations)
        return self.engine.get(dx)

    def reverse(self, tape, g, rho, relax):
        """-> the cotangents of y and of the first field."""
        y = self.engine.empty((len(g), int(self.mask.sum())))
        w = self.engine.empty((len(g), 2, *self.mask.shape))
        self.plan.reverse(tape, self.engine.put(g), y, w, rho, relax)
        return self.engine.get(y), self.engine.get(w)


def absence(name):
    """Why an engine cannot run here, or None. One that is present but broken is not absent: its tests fail."""
    modules, remedy = _backends.ENGINES[name]
    for module in modules.split():
        if importlib.util.find_spec(module) is None:
            return f"no {module}: {remedy}"
    if name == "cupy" and not importlib.import_module("cupy").cuda.is_available():
        return "no CUDA device"
    return None


ABSENCES = {name: absence(name) for name in _backends.ENGINES if name != "reference"}


@pytest.fixture(params=DTYPES)
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture(params=[name for name, why in ABSENCES.items() if why is None])
def engine(request, dtype):
    """Every engine that can run here, in both precisions; test_kernels says which cannot, and why."""
    xp = importlib.import_module("cupy") if request.param == "cupy" else np
    return Engine(request.param, _backends.select(request.param), dtype, xp)


@pytest.fixture
def rng():
    return np.random.default_rng(20220612)


@pytest.fixture(scope="session")
def paper():
    """The paper's masks and test images: a dict with radial25, radial40, radial80 and images (5, 256, 256)."""
    files = [DATA / "masks.npz", DATA / "ellipses.npz"]
    for file in files:
        if not file.exists():
            pytest.skip(f"the paper's data is not here: {file.name} in ../shared/data")
    found = {}
    for file in files:
        with np.load(file) as arrays:
            found |= {name: arrays[name] for name in arrays.files}
    return found


def draw(rng, *shape):
    """Standard normal complex numbers that complex64 holds exactly: the same numbers enter in either precision."""
    return (rng.standard_normal((*shape, 2)).astype(np.float32).astype(float) @ [1, 1j]).reshape(shape)


def draw_field(rng, batch, shape, t):
    """A random field (batch, 2, rows, cols) some parts of which are exactly t or -t."""
    parts = draw(rng, batch, 2, *shape).view(float)
    parts = np.where(rng.random(parts.shape) < 0.1, np.copysign(t, parts), parts)
    return np.ascontiguousarray(parts).view(complex)


def draw_mask(rng, shape, zero=True):
    """Half of the frequencies at random; the zero frequency sampled or not; never empty."""
    mask = rng.random(shape) < 0.5
    mask.flat[-1] = True
    mask[shape[0] // 2, shape[1] // 2] = zero
    assert mask.any(), "one frequency only: it must be sampled"
    return mask


def draw_image(rng, batch, shape):
    """Complex boxes of random size and value over a little noise: an image that total variation likes."""
    x = 0.01 * draw(rng, batch, *shape)
    for image in x:
        for _ in range(4):
            r, c = (int(rng.integers(n)) for n in shape)
            image[r : r + shape[0] // 2 + 1, c : c + shape[1] // 3 + 1] += draw(rng, 1)[0]
    return x.astype(np.complex64).astype(complex)
