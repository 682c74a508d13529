# SPDX-License-Identifier: MIT
"""The CUDA engine: our kernels, compiled at run time by CuPy, on the caller's current device and stream.

An iteration is two launches where rows and columns are powers of two from 64 to 4096, and cuFFT plus one launch for the
stencils at every other size. Nothing waits for the device inside a solve. Scratch belongs to the plan: one plan serves
one stream at a time. What each kernel means is said in `kspike.reference`; the sources are in `csrc/*.cu`.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from kspike import reference
from kspike._backends.cuda_sources import launch_sizes, options, source

try:
    import cupy
    import cupyx
    import cupyx.scipy.fft
except ModuleNotFoundError:
    raise
except ImportError as error:
    raise ImportError(
        f"CuPy is installed but cannot be imported: {error}. Reinstall it: pip install --force-reinstall 'kspike[gpu]'"
    ) from error

__all__ = [
    "Plan",
    "clip",
    "grad",
    "grad_adjoint",
    "momentum",
    "normalise",
    "peak",
    "reflect",
    "reflect_tangent",
    "shrink",
    "shrink_update",
    "shrink_update_adjoint",
    "shrink_update_tangent",
    "support",
]

AXES = (-2, -1)
NULL = np.uint64(0)

# --- compiling and launching -----------------------------------------------------------------------------------------


@functools.cache
def _module(device, file, dtype, defines):
    return cupy.RawModule(code=source(file), options=options(dtype, dict(defines)))


@functools.cache
def _kernel(device, file, name, dtype, defines, shared):
    kernel = _module(device, file, dtype, defines).get_function(name)
    if shared > 48 << 10:
        kernel.max_dynamic_shared_size_bytes = shared
    return kernel


def _bind(file, name, dtype, grid, block, arguments, shared=0, defines=()):
    """A launch, to call any number of times. None is a null pointer, an int has 32 bits, a float is of the dtype."""
    device = cupy.cuda.Device()
    for a in arguments:
        if isinstance(a, cupy.ndarray) and a.device != device:
            raise ValueError(f"array on {a.device}: expected the current device, {device}; type `with x.device:`")
    if max(grid[1:], default=0) > 65535:
        raise ValueError(f"batch: expected at most 65535 images on a GPU at once, got {max(grid[1:])}")
    if 0 in grid:
        return lambda: None
    real = np.float64 if np.dtype(dtype) == np.complex128 else np.float32
    cast = tuple(
        NULL if a is None else np.int32(a) if isinstance(a, int) else real(a) if isinstance(a, float) else a
        for a in arguments
    )
    kernel = _kernel(device.id, file, name, np.dtype(dtype).name, tuple(defines), shared)
    return functools.partial(kernel, grid, block, cast, shared_mem=shared)


# --- the kernels of the contract: one thread a pixel ------------------------------------------------------------------


def _pixels(name, dtype, batch, rows, cols, *arguments):
    """A launch of a kernel of stencil.cu on all pixels; sizes are its last arguments."""
    grid = (-(-cols // 32), -(-rows // 8), batch)
    return _bind("stencil.cu", name, dtype, grid, (32, 8), (*arguments, rows, cols))


def _stencil(name, out, first, *arguments):
    _pixels(name, first.dtype, len(first), *first.shape[-2:], out, first, *arguments)()
    return out


def _record(bits, w, t):
    """A launch that writes the support of w to one step of a tape: one thread a word."""
    batch, rows, words = bits.shape
    grid = (-(-words // 32), -(-rows // 8), batch)
    return _bind("stencil.cu", "record", w.dtype, grid, (32, 8), (bits, w, t, *w.shape[-2:]))


def _numbers(name, out, v, t):
    _bind("stencil.cu", name, v.dtype, (-(-v.size // 256),), (256,), (out, v, float(t), np.int64(v.size)))()
    return out


def grad(x, out):
    """D x."""
    return _stencil("grad", out, x)


def grad_adjoint(d, out):
    """D* d."""
    return _stencil("grad_adjoint", out, d)


def clip(v, t, out):
    """V clipped to [-t, t]."""
    return _numbers("clip", out, v, t)


def shrink(v, t, out):
    """V - clip(v, t)."""
    return _numbers("shrink", out, v, t)


def support(w, t, out):
    """4 bits per pixel: which parts of w have modulus above t."""
    return _stencil("support", out, w, float(t))


def reflect(w, t, out):
    """D*(w - 2 clip(w, t))."""
    return _stencil("reflect", out, w, float(t))


def reflect_tangent(dw, bits, out):
    """D*((2 S - 1) dw)."""
    return _stencil("reflect_tangent", out, dw, bits)


def shrink_update(w, x, t, relax, out):
    """W + relax (D x - shrink(w, t))."""
    return _stencil("shrink_update", out, w, x, float(t), float(relax))


def shrink_update_tangent(dw, dx, bits, relax, out):
    """Dw + relax (D dx - S dw)."""
    return _stencil("shrink_update_tangent", out, dw, dx, bits, float(relax))


def shrink_update_adjoint(g, r, bits, relax, rho, out):
    """G - relax S g + rho (2 S - 1) D r."""
    return _stencil("shrink_update_adjoint", out, g, r, bits, float(relax), float(rho))


# --- an attack step, without waiting for the device -------------------------------------------------------------------


def _items(name, dtype, batch, n, *arguments):
    """A launch of a kernel of reduce.cu on n numbers an image: 256 threads, at most 64 blocks an image."""
    block, blocks = 256, min(64, max(1, -(-n // 1024)))
    shared = 16 * block  # a double, or the value and the place of a peak, for each thread
    return _bind("reduce.cu", name, dtype, (blocks, batch), (block,), (*arguments, np.int64(n)), shared), blocks


def momentum(e, g, keep, eta, out):
    """Keep e + (1 - keep) eta g / ||g||, for samples (batch, m) and budgets eta (batch,): float64, on the device."""
    batch, m = g.shape
    partial = cupy.empty((batch, 64), np.float64)
    _items("squares", g.dtype, batch, m, partial, g)[0]()
    _items("momentum", g.dtype, batch, m, out, e, g, partial, float(keep), eta)[0]()
    return out


def normalise(e, eta, out):
    """Eta e / ||e||: the projection onto the sphere of radius eta (batch,)."""
    return momentum(e, e, 0.0, eta, out)


def peak(x):
    """||x||_inf of each image (batch, ...) and the flat place where it is first taken: two device arrays (batch,)."""
    batch, n = len(x), math.prod(x.shape[1:])
    modulus, place = cupy.empty(batch, x.real.dtype), cupy.empty(batch, np.int64)
    partial = cupy.empty((batch, 64, 2), np.int64)
    launch, blocks = _items("peaks", x.dtype, batch, n, partial, x)
    launch()
    _bind("reduce.cu", "peak", x.dtype, (-(-batch // 64),), (64,), (modulus, place, partial, blocks, batch))()
    return modulus, place


# --- the passes of an iteration: each method prepares a launch, whose arguments come in the kernel's order ------------
# g is the right-hand side of the x-update and f its result, in the form that suits the passes.


class _Own:
    """Our transforms, two launches an iteration; g and f are row spectra. For the powers of two of `launch_sizes`."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype = shape, dtype
        self.cols, self.rows = self._sizes(shape, dtype)
        self.twiddles = [cupy.asarray(np.exp(-2j * np.pi * np.arange(n) / n).astype(dtype)) for n in shape]

    @staticmethod
    def _sizes(shape, dtype):
        capability = int(cupy.cuda.Device().compute_capability)
        return [launch_sizes(kind, n, dtype, capability) for kind, n in zip(("cols", "rows"), shape, strict=True)]

    @classmethod
    def serves(cls, shape, dtype):
        """Whether there are passes of these lengths, and this device has the shared memory that they take."""
        limit = cupy.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"]
        return all(sizes is not None and sizes.shared <= limit for sizes in cls._sizes(shape, dtype))

    def _cols(self, name, batch, *arguments):
        s, grid = self.cols, (self.shape[1] // self.cols.covers, batch)
        return _bind("cols.cu", name, self.dtype, grid, s.block, (*arguments, self.shape[1]), s.shared, s.defines)

    def _rows(self, name, batch, *arguments):
        s, grid = self.rows, (-(-self.shape[0] // self.rows.covers), batch)
        return _bind("rows.cu", name, self.dtype, grid, s.block, (*arguments, self.shape[0]), s.shared, s.defines)

    def _lines(self, name, out, x):
        s, lines = self.rows, len(x) * self.shape[0]
        grid, arguments = (-(-lines // s.block[1]),), (out, x, self.twiddles[1], lines)
        return _bind("rows.cu", name, self.dtype, grid, s.block, arguments, s.shared, s.defines)

    def enter(self, g, image):
        return self._lines("rows_forward", g, image)

    def leave(self, image, f):
        return self._lines("rows_inverse", image, f)

    def forward(self, spectrum, image):
        enter = self.enter(spectrum, image)
        cols = self._cols("cols_forward", len(image), spectrum, spectrum, self.twiddles[0])
        return lambda: (enter(), cols())

    def inverse(self, image, spectrum):
        cols = self._cols("cols_inverse", len(image), spectrum, spectrum, self.twiddles[0])
        leave = self.leave(image, spectrum)
        return lambda: (cols(), leave())

    def resolvent(self, f, g, *arguments, count=None, step=0):
        return self._cols("cols_resolvent", len(f), f, g, *arguments, self.twiddles[0], count, step)

    def reflect(self, g, w, t):
        return self._rows("rows_reflect", len(w), g, w, t, self.twiddles[1])

    def reflect_tangent(self, g, w, bits):
        return self._rows("rows_reflect_tangent", len(w), g, w, bits, self.twiddles[1])

    def update(self, g, w_next, x, f, w, bits, t, relax, live=None):
        return self._rows("rows_update", len(w), g, w_next, x, f, w, bits, t, relax, self.twiddles[1], live, 0)

    def update_tangent(self, g, w_next, x, f, w, bits, relax):
        return self._rows("rows_update_tangent", len(w), g, w_next, x, f, w, bits, relax, self.twiddles[1])

    def update_adjoint(self, g, w_next, f, w, bits, relax, rho, count, step):
        arguments = g, w_next, None, f, w, bits, relax, rho, self.twiddles[1], count, step
        return self._rows("rows_update_adjoint", len(w), *arguments)


def _in_place(transform, x):
    """X <- its unscaled transform."""
    y = transform(x, axes=AXES, norm="forward" if transform is cupyx.scipy.fft.ifft2 else "backward", overwrite_x=True)
    if not cupy.may_share_memory(x, y):
        cupy.copyto(x, y)


class _Library:
    """cuFFT, and one launch for all that happens in image space; g and f are images. For every size."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype = shape, dtype

    def _pixels(self, name, batch, *arguments):
        return _pixels(name, self.dtype, batch, *self.shape, *arguments)

    def enter(self, g, image):
        return lambda: cupy.copyto(g, image)

    def leave(self, image, f):
        return lambda: cupy.copyto(image, f)

    def forward(self, spectrum, image):
        return lambda: (cupy.copyto(spectrum, image), _in_place(cupyx.scipy.fft.fft2, spectrum))

    def inverse(self, image, spectrum):
        return lambda: (cupy.copyto(image, spectrum), _in_place(cupyx.scipy.fft.ifft2, image))

    def resolvent(self, f, g, *arguments, count=None, step=0):
        grid = (-(-math.prod(self.shape) // 256), len(f))
        solve = _bind("kspace.cu", "resolvent", self.dtype, grid, (256,), (f, *arguments, count, step, *self.shape))
        forward = self.forward(f, g)
        return lambda: (forward(), solve(), _in_place(cupyx.scipy.fft.ifft2, f))

    def reflect(self, g, w, t):
        return self._pixels("reflect", len(w), g, w, t)

    def reflect_tangent(self, g, w, bits):
        return self._pixels("begin_tangent", len(w), g, w, bits)

    def update(self, g, w_next, x, f, w, bits, t, relax, live=None):
        launches = [self._pixels("update", len(w), g, w_next, x, f, w, t, relax, live, 0)]
        if bits is not None:
            launches.insert(0, _record(bits, w, t))
        return lambda: [launch() for launch in launches]

    def update_tangent(self, g, w_next, x, f, w, bits, relax):
        return self._pixels("update_tangent", len(w), g, w_next, x, f, w, bits, relax)

    def update_adjoint(self, g, w_next, f, w, bits, relax, rho, count, step):
        return self._pixels("update_adjoint", len(w), g, w_next, None, f, w, bits, relax, rho, count, step)


# --- the plan ---------------------------------------------------------------------------------------------------------


class State:
    """The field w of a batch, and room for the next one: an iteration reads the one and writes the other."""

    def __init__(self, w):
        self.w, self.next = w, cupy.empty_like(w)

    @property
    def batch(self):
        """How many images."""
        return len(self.w)

    def field(self):
        """A copy of w, (batch, 2, rows, cols)."""
        return self.w.copy()

    def copy(self):
        """An independent state with the same contents."""
        return State(self.w.copy())

    def turn(self):
        """The next field is now the field."""
        self.w, self.next = self.next, self.w


class Tape:
    """The supports before each iteration, 4 bits a pixel: (batch, rows, ceil(cols / 8)) words of 32 bits for each step.

    `runs` has, for each call of `iterate`, its steps and how many of them each image took part in (None: in all).
    """

    def __init__(self):
        self.runs = []

    def last(self):
        """The last step of each image."""
        steps, count = self.runs[-1]
        if count is None:
            return steps[-1]
        bits = steps[0].copy()
        for k, step in enumerate(steps):
            cupy.copyto(bits, step, where=(count > k)[:, None, None])
        return bits


def _later(array):
    """Start to copy a small array to the host, behind what is queued: a function that waits for it."""
    host, done = cupyx.empty_pinned(array.shape, array.dtype), cupy.cuda.Event(disable_timing=True)
    cupy.asnumpy(array, out=host, blocking=False)
    done.record()
    return lambda: (done.synchronize(), host)[1]


def _spread(flags):
    """Flags (batch,) as they broadcast against fields."""
    return flags[:, None, None, None]


class Plan:
    """The transforms and the iteration for one mask, on the device that was current when it was made."""

    CHECK = reference.Plan.CHECK
    AHEAD = 3  # looks at the stopping rule that are queued before the host asks whether all images have ended

    def __init__(self, mask, dtype="complex64", threads=1, norm="separable"):
        if norm != "separable":
            raise NotImplementedError(f"norm={norm!r} on backend 'cupy': expected 'separable', the only one there")
        if not cupy.is_available():
            raise RuntimeError(f"backend 'cupy': CuPy {cupy.__version__} finds no CUDA device and driver here")
        self.shape, self.dtype = mask.shape, np.dtype(dtype)
        rows, cols = mask.shape
        real = np.empty(0, dtype).real.dtype
        place = np.arange(rows * cols, dtype=np.int32).reshape(rows, cols)
        self._place = cupy.asarray(np.fft.fftshift(place)[mask])
        self._sampled = cupy.asarray(np.fft.ifftshift(mask).astype(np.uint8))
        self._symbols = [cupy.asarray((2 - 2 * np.cos(2 * np.pi * np.arange(n) / n)).astype(real)) for n in mask.shape]
        self._phases = [
            cupy.asarray(np.exp(2j * np.pi * (np.arange(n) * (n // 2) % n) / n).astype(dtype)) for n in mask.shape
        ]
        passes = _Own if _Own.serves(mask.shape, dtype) else _Library
        self._passes = passes(mask.shape, self.dtype)
        self._scratch = {}
        _trust(cupy.cuda.Device().id, self.dtype, passes)

    def _room(self, batch, name):
        """A spectrum (batch, rows, cols) that belongs to the plan."""
        key = batch, name
        if key not in self._scratch:
            self._scratch = {k: v for k, v in self._scratch.items() if k[0] == batch}
            self._scratch[key] = cupy.empty((batch, *self.shape), self.dtype)
        return self._scratch[key]

    def _samples(self, name, a, b, scale):
        """A launch of gather or scatter, between the samples and the unscaled spectrum that are a and b."""
        m = self._place.size
        arguments = a, b, self._place, *self._phases, scale, m, *self.shape
        return _bind("kspace.cu", name, self.dtype, (-(-m // 256), len(a)), (256,), arguments)

    def _resolvent(self, f, g, rho, weight=1.0, data=None, dense=0, total=None, count=None, step=0):
        """F <- (A*A + rho D*D)^-1 (data + weight g)."""
        arguments = self._sampled, *self._symbols, data, dense, total, rho, weight, 1 / math.prod(self.shape)
        return self._passes.resolvent(f, g, *arguments, count=count, step=step)

    def forward(self, x, out):
        """A x = P F x."""
        if not len(x):
            return out
        f = self._room(len(x), "f")
        self._passes.forward(f, x)()
        self._samples("gather", out, f, 1 / math.sqrt(math.prod(self.shape)))()
        return out

    def _data(self, y, spectrum, scale, rhs=None):
        """spectrum <- scale F* P* y, plus the unscaled spectrum of the images rhs."""
        if rhs is None:
            spectrum[...] = 0
        else:
            self._passes.forward(spectrum, rhs)()
        self._samples("scatter", spectrum, y, scale)()

    def adjoint(self, y, out):
        """A* y = F^-1 P* y."""
        if not len(y):
            return out
        f = self._room(len(y), "f")
        self._data(y, f, 1 / math.sqrt(math.prod(self.shape)))
        self._passes.inverse(out, f)()
        return out

    def resolvent(self, b, rho, out):
        """(A*A + rho D*D)^-1 b."""
        if not len(b):
            return out
        f, g = self._room(len(b), "f"), self._room(len(b), "g")
        self._passes.enter(g, b)()
        self._resolvent(f, g, float(rho))()
        self._passes.leave(out, f)()
        return out

    def state(self, w):
        """A state that starts from the field w (batch, 2, rows, cols); w is copied."""
        return State(w.astype(self.dtype))

    def tape(self, batch):
        """An empty tape."""
        return Tape()

    def _bits(self, *lead):
        return cupy.empty((*lead, self.shape[0], -(-self.shape[1] // 8)), np.uint32)

    def iterate(self, state, y, x, t, rho, relax, iterations, stop=None, tape=None, rhs=None):
        """Run ADMM on each image from `state`; see reference. Returns arrays where `stop` lives, or on the host."""
        batch, t, rho, relax = state.batch, float(t), float(rho), float(relax)
        if stop is None or not batch or not iterations:
            ended, change, live = np.full(batch, iterations, np.int64), np.full(batch, np.inf), None
        else:
            ended, change = cupy.full(batch, iterations, np.int64), cupy.full(batch, np.inf)
            live = cupy.ones(batch, np.int32)
        if not batch or not iterations:
            return ended, change
        f, g, data = (self._room(batch, name) for name in ("f", "g", "data"))
        self._data(y, data, math.sqrt(math.prod(self.shape)), rhs)
        looks = live is not None and _Looks(live, ended, change, stop, x, self._room(batch, "seen"))
        solve = self._resolvent(f, g, rho, rho, data, int(rhs is not None), count=live)
        plain = {}  # the launches of iterations that leave nothing but the state: from one field to the other, and back
        steps = []
        self._passes.reflect(g, state.w, t)()
        for k in range(1, iterations + 1):
            solve()
            look, last = bool(looks) and k % self.CHECK == 0, k == iterations
            if tape is not None:
                if len(steps) % self.CHECK == 0:
                    chunk = self._bits(min(self.CHECK, iterations + 1 - k), batch)
                steps.append(chunk[len(steps) % self.CHECK])
            if look or last or tape is not None:
                out, bits = x if look or last else None, steps[-1] if steps else None
                self._passes.update(None if last else g, state.next, out, f, state.w, bits, t, relax, live)()
            else:
                if k % 2 not in plain:
                    plain[k % 2] = self._passes.update(g, state.next, None, f, state.w, None, t, relax, live)
                plain[k % 2]()
            state.turn()
            if look and looks.all_ended(k):
                break
        if live is not None:  # an image that ended early did so after an even number of iterations, in the other field
            if k % 2:
                cupy.copyto(state.w, state.next, where=_spread(ended < k))
            if tape is not None:
                tape.runs.append((steps, ended.astype(np.int32)))
            if not isinstance(stop, cupy.ndarray):
                ended, change = cupy.asnumpy(ended), cupy.asnumpy(change)
        elif tape is not None:
            tape.runs.append((steps, None))
        return ended, change

    def freeze(self, state, t):
        """A tape of one step: the support of the state as it stands."""
        bits = self._bits(state.batch)
        _record(bits, state.w, float(t))()
        tape = Tape()
        tape.runs.append(([bits], None))
        return tape

    def tangent(self, state, tape, g, dx, rho, relax, iterations):
        """The linearised iteration on the frozen support with right-hand side g; see reference."""
        batch, rho, relax = state.batch, float(rho), float(relax)
        if not batch or not iterations:
            return
        bits, rest = tape.last(), self._room(batch, "g")
        f, data = self._room(batch, "f"), self._room(batch, "data")
        self._passes.forward(data, g)()
        self._passes.reflect_tangent(rest, state.w, bits)()
        solve = self._resolvent(f, rest, rho, rho, data, 1)
        plain = {}
        for k in range(1, iterations + 1):
            solve()
            if k == iterations:
                self._passes.update_tangent(None, state.next, dx, f, state.w, bits, relax)()
            else:
                if k % 2 not in plain:
                    plain[k % 2] = self._passes.update_tangent(rest, state.next, None, f, state.w, bits, relax)
                plain[k % 2]()
            state.turn()

    def reverse(self, tape, g, y, w, rho, relax):
        """The exact adjoint of the iterations on the tape; see reference."""
        batch, rho, relax = len(g), float(rho), float(relax)
        if not batch:
            return
        f, image, total = (self._room(batch, name) for name in ("f", "g", "data"))
        total[...] = 0
        field = State(cupy.zeros_like(w))
        field.next[...] = 0
        self._passes.enter(image, g)()
        for steps, count in reversed(tape.runs):
            if count is not None:  # an image rests until its last step: it has to be in the field of that step
                cupy.copyto(field.next, field.w, where=_spread((len(steps) - count) % 2 == 1))
            for k in reversed(range(len(steps))):
                self._resolvent(f, image, rho, total=total, count=count, step=k)()
                self._passes.update_adjoint(image, field.next, f, field.w, steps[k], relax, rho, count, k)()
                field.turn()
        self._samples("gather", y, total, math.sqrt(math.prod(self.shape)))()
        w[...] = field.w


class _Looks:
    """The stopping rule, on the device: every CHECK iterations an image whose x has moved by at most `stop` ends."""

    def __init__(self, live, ended, change, stop, x, seen):
        self.live, self.ended, self.change, self.stop = live, ended, change, cupy.asarray(stop, np.float64)
        batch, n = len(x), math.prod(x.shape[1:])
        self.partial = cupy.empty((batch, 64), x.real.dtype)
        self.compare, self.blocks = _items("changes", x.dtype, batch, n, self.partial, seen, x, live)
        self.dtype, self.pending, self.first = x.dtype, [], True

    def all_ended(self, iteration):
        """Queue a look; whether all images had ended a few looks ago."""
        batch = len(self.live)
        self.compare()
        images = self.live, self.ended, self.change, self.stop
        arguments = *images, self.partial, self.blocks, iteration, int(self.first), batch
        _bind("reduce.cu", "judge", self.dtype, (-(-batch // 64),), (64,), arguments)()
        self.first = False
        self.pending.append(_later(self.live))
        return len(self.pending) > Plan.AHEAD and not self.pending.pop(0)().any()


_trusted: set[tuple] = set()


def _trust(device, dtype, passes):
    """Check one small solve against the reference, once per device, dtype and kind of passes; raise if it differs."""
    if (device, dtype, passes) in _trusted:
        return
    _trusted.add((device, dtype, passes))
    shape, random = (64, 64) if passes is _Own else (12, 10), np.random.default_rng(0)
    mask = random.random(shape) < 0.4
    parts = random.standard_normal((2, 1, np.count_nonzero(mask)))
    y, w = parts[0] + 1j * parts[1], np.zeros((1, 2, *shape), complex)
    exact, plan = reference.Plan(mask), Plan(mask, dtype)
    expected, x = np.empty((1, *shape), complex), cupy.empty((1, *shape), dtype)
    exact.iterate(exact.state(w), y, expected, 0.05, 0.3, 1.9, 4)
    plan.iterate(plan.state(cupy.asarray(w)), cupy.asarray(y.astype(dtype)), x, 0.05, 0.3, 1.9, 4)
    error = np.abs(cupy.asnumpy(x) - expected).max() / np.abs(expected).max()
    if not error < 1e4 * np.finfo(dtype).eps:  # rounding is a few eps, a wrong kernel is off by far more
        _trusted.discard((device, dtype, passes))
        raise RuntimeError(
            f"backend 'cupy': device {device} solves a test of shape {shape} in {dtype} with a relative error of "
            f"{error:.1e}: refusing to go on. Please report this with the output of `python -m cupyx.tools.show_config`"
        )
