# SPDX-License-Identifier: MIT
"""The CUDA engine: our kernels, compiled at run time by CuPy or ahead of it, on the caller's device and stream.

An iteration is two launches where rows and columns are powers of two from 64 to 4096 (four in the joint norms), and
cuFFT plus one launch for the stencils at every other size; small cases run as CUDA graphs. Nothing waits for the device
inside a solve that has not ended. Scratch belongs to the plan: one plan serves one stream at a time. What each kernel
means is said in `kspike.reference`; the sources are in `csrc/*.cu`, and docs/cuda.md explains them.
"""

from __future__ import annotations

import math

import numpy as np

from kspike import reference
from kspike._backends.cuda_launch import Section, bind, cupy, cupyx
from kspike._backends.cuda_passes import choose, pixels

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

# --- the kernels of the contract: one thread a pixel ------------------------------------------------------------------


def _stencil(name, out, first, *arguments):
    pixels(name, first.dtype, len(first), *first.shape[-2:], out, first, *arguments)()
    return out


def _numbers(name, out, v, t):
    bind("stencil.cu", name, v.dtype, (-(-v.size // 256),), (256,), (out, v, float(t), np.int64(v.size)))()
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
    return bind("reduce.cu", name, dtype, (blocks, batch), (block,), (*arguments, np.int64(n)), shared), blocks


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
    bind("reduce.cu", "peak", x.dtype, (-(-batch // 64),), (64,), (modulus, place, partial, blocks, batch))()
    return modulus, place


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
    """The supports before each iteration, as the passes keep them: 4 bits a pixel, or a field in a joint norm.

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
            cupy.copyto(bits, step, where=_spread(count > k, bits))
        return bits


def _spread(flags, like):
    """Flags (batch,) as they broadcast against an array of a batch."""
    return flags.reshape(-1, *[1] * (like.ndim - 1))


def _play(*launches):
    for launch in launches:
        launch()


class Plan:
    """The transforms and the iteration for one mask and norm, on the device that was current when it was made."""

    CHECK = reference.Plan.CHECK
    AHEAD = 3  # looks at the stopping rule that are queued before the host asks whether all images have ended
    SMALL = 1 << 20  # pixels of a batch whose sections run as graphs: beyond, the device takes longer than the host
    SECTIONS = 32  # that are kept

    def __init__(self, mask, dtype="complex64", threads=1, norm="separable"):
        if not cupy.is_available():
            raise RuntimeError(f"backend 'cupy': CuPy {cupy.__version__} finds no CUDA device and driver here")
        self.shape, self.dtype, self._norm = mask.shape, np.dtype(dtype), norm
        rows, cols = mask.shape
        real = np.empty(0, dtype).real.dtype
        place = np.arange(rows * cols, dtype=np.int32).reshape(rows, cols)
        self._place = cupy.asarray(np.fft.fftshift(place)[mask])
        self._sampled = cupy.asarray(np.fft.ifftshift(mask).astype(np.uint8))
        self._symbols = [cupy.asarray((4 * np.sin(np.pi * np.fft.fftfreq(n)) ** 2).astype(real)) for n in mask.shape]
        self._phases = [
            cupy.asarray(np.exp(2j * np.pi * (np.arange(n) * (n // 2) % n) / n).astype(dtype)) for n in mask.shape
        ]
        self._passes = choose(mask.shape, self.dtype, norm)
        self._fft = self._passes.fft
        self._rooms, self._sections = {}, {}
        _trust(cupy.cuda.Device().id, self.dtype, norm, self._passes)
        cupy.cuda.get_current_stream().synchronize()  # its constants are there for whatever stream comes next

    def _room(self, batch, name, make=None):
        """What belongs to the plan for a batch: by default a spectrum (batch, rows, cols)."""
        if any(k[0] != batch for k in self._rooms):
            self._rooms, self._sections = {}, {}
        key = batch, name
        if key not in self._rooms:
            self._rooms[key] = make() if make else cupy.empty((batch, *self.shape), self.dtype)
        return self._rooms[key]

    def _samples(self, name, a, b, scale):
        """A launch of gather or scatter, between the samples and the unscaled spectrum that are a and b."""
        m = self._place.size
        arguments = a, b, self._place, *self._phases, scale, m, *self.shape
        return bind("kspace.cu", name, self.dtype, (-(-m // 256), len(a)), (256,), arguments)

    def _resolvent(self, f, g, rho, weight=1.0, data=None, dense=0, total=None, count=None, step=0):
        """F <- (A*A + rho D*D)^-1 (data + weight g)."""
        arguments = self._sampled, *self._symbols, data, dense, total, rho, weight, 1 / math.prod(self.shape)
        return self._passes.resolvent(f, g, *arguments, count=count, step=step)

    def forward(self, x, out):
        """A x = P F x."""
        if len(x):
            f = self._room(len(x), "f")
            _play(*self._fft.forward(f, x), self._samples("gather", out, f, 1 / math.sqrt(math.prod(self.shape))))
        return out

    def _data(self, y, spectrum, scale, rhs=None):
        """spectrum <- scale F* P* y, plus the unscaled spectrum of the images rhs."""
        if rhs is None:
            spectrum[...] = 0
        else:
            _play(*self._fft.forward(spectrum, rhs))
        self._samples("scatter", spectrum, y, scale)()

    def adjoint(self, y, out):
        """A* y = F^-1 P* y."""
        if len(y):
            f = self._room(len(y), "f")
            self._data(y, f, 1 / math.sqrt(math.prod(self.shape)))
            _play(*self._fft.inverse(out, f))
        return out

    def resolvent(self, b, rho, out):
        """(A*A + rho D*D)^-1 b."""
        if len(b):
            f, g = self._room(len(b), "f"), self._room(len(b), "g")
            _play(*self._passes.enter(g, b), *self._resolvent(f, g, float(rho)), *self._passes.leave(out, f))
        return out

    def state(self, w):
        """A state that starts from the field w (batch, 2, rows, cols); w is copied."""
        return State(w.astype(self.dtype))

    def rescale(self, state, t, to):
        """See reference.Plan.rescale."""
        state.w += self.dtype.type(to / t - 1) * reference.clip(state.w, t, self._norm)

    def tape(self, batch):
        """An empty tape."""
        return Tape()

    def _section(self, key, state, count, launches):
        """Launches that were made for these addresses, or are made now; a graph where the case is small."""
        key = key, count, state.w.data.ptr, state.next.data.ptr
        section = self._sections.pop(key, None)
        if section is None:
            section = Section(launches(), self._fft.graphs and state.batch * math.prod(self.shape) <= self.SMALL)
        self._sections[key] = section
        if len(self._sections) > self.SECTIONS:
            del self._sections[next(iter(self._sections))]
        return section

    def iterate(self, state, y, x, t, rho, relax, iterations, stop=None, tape=None, rhs=None):
        """Run ADMM on each image from `state`; see reference. Returns arrays where `stop` lives, or on the host."""
        batch, t, rho, relax, dense = state.batch, float(t), float(rho), float(relax), int(rhs is not None)
        if stop is None or not batch or not iterations:
            result = np.full(batch, iterations if batch else 0, np.int64), np.full(batch, np.inf)
            if not batch or not iterations:
                return result
        f, g, data = (self._room(batch, name) for name in ("f", "g", "data"))
        self._data(y, data, math.sqrt(math.prod(self.shape)), rhs)
        looks = live = None
        if stop is not None:
            looks = self._room(batch, "looks", lambda: _Looks(batch, self.shape, self.dtype))
            looks.begin(stop)
            live = looks.live
        steps = []

        def launches(count, ends):
            """`count` iterations; x is written by the last if these end the solve or a look follows."""
            solve, made = self._resolvent(f, g, rho, rho, data, dense, count=live), []
            look = looks is not None and count == self.CHECK
            for k in range(count):
                last = k + 1 == count
                out = x if last and (look or ends) else None
                w, w_next = (state.w, state.next) if k % 2 == 0 else (state.next, state.w)
                bits = None if tape is None else steps[k - count]
                made += solve
                made += self._passes.update(None if last and ends else g, w_next, out, f, w, bits, t, relax, live)
            return made + looks.launches(x) if look else made

        _play(*self._passes.reflect(g, state.w, t))
        done, key = 0, ("iterate", t, rho, relax, dense, x.data.ptr, live is not None)
        while done < iterations:
            count = min(self.CHECK, iterations - done)
            ends = done + count == iterations
            if tape is None:
                self._section((*key, ends), state, count, lambda c=count, e=ends: launches(c, e))()
            else:
                steps.extend(self._passes.tape(count, batch))
                _play(*launches(count, ends))
            done += count
            if count % 2:
                state.turn()
            if live is not None and count == self.CHECK and looks.all_ended():
                break
        if live is None:
            if tape is not None:
                tape.runs.append((steps, None))
            return result
        ended = cupy.where(live, done, looks.ended)
        if done % 2:  # an image that ended early did so after an even number of iterations, in the other field
            cupy.copyto(state.w, state.next, where=_spread(ended < done, state.w))
        if tape is not None:
            tape.runs.append((steps, ended.astype(np.int32)))
        if isinstance(stop, cupy.ndarray):
            return ended, looks.change.copy()
        return cupy.asnumpy(ended), cupy.asnumpy(looks.change)

    def freeze(self, state, t):
        """A tape of one step: the support of the state as it stands."""
        steps, tape = self._passes.tape(1, state.batch), Tape()
        if state.batch:
            self._passes.record(steps[0], state.w, float(t))()
        tape.runs.append((list(steps), None))
        return tape

    def tangent(self, state, tape, g, dx, rho, relax, iterations):
        """The linearised iteration on the frozen support with right-hand side g; see reference."""
        batch, rho, relax = state.batch, float(rho), float(relax)
        if not batch or not iterations:
            return
        bits, rest = tape.last(), self._room(batch, "g")
        f, data = self._room(batch, "f"), self._room(batch, "data")

        def launches(count, ends):
            solve, made = self._resolvent(f, rest, rho, rho, data, 1), []
            for k in range(count):
                last = ends and k + 1 == count
                w, w_next = (state.w, state.next) if k % 2 == 0 else (state.next, state.w)
                made += solve
                made += self._passes.update_tangent(
                    None if last else rest, w_next, dx if last else None, f, w, bits, relax
                )
            return made

        _play(*self._fft.forward(data, g), *self._passes.reflect_tangent(rest, state.w, bits))
        done, key = 0, ("tangent", rho, relax, dx.data.ptr, bits.data.ptr)
        while done < iterations:
            count = min(self.CHECK, iterations - done)
            ends = done + count == iterations
            self._section((*key, ends), state, count, lambda c=count, e=ends: launches(c, e))()
            done += count
            if count % 2:
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
        _play(*self._passes.enter(image, g))
        for steps, count in reversed(tape.runs):
            if count is not None:  # an image rests until its last step: it has to be in the field of that step
                cupy.copyto(field.next, field.w, where=_spread((len(steps) - count) % 2 == 1, field.w))
            for k in reversed(range(len(steps))):
                _play(
                    *self._resolvent(f, image, rho, total=total, count=count, step=k),
                    *self._passes.update_adjoint(image, field.next, f, field.w, steps[k], relax, rho, count, k),
                )
                field.turn()
        self._samples("gather", y, total, math.sqrt(math.prod(self.shape)))()
        w[...] = field.w


class _Looks:
    """The stopping rule, on the device: every CHECK iterations an image whose x has moved by at most `stop` ends."""

    def __init__(self, batch, shape, dtype):
        self.live, self.ended = cupy.empty(batch, np.int32), cupy.empty(batch, np.int64)
        self.change, self.stop = cupy.empty(batch), cupy.empty(batch)
        self.seen = cupy.empty((batch, *shape), dtype)
        self.partial = cupy.empty((batch, 64), self.seen.real.dtype)
        self.host = [cupyx.empty_pinned(batch, np.int32) for _ in range(Plan.AHEAD + 1)]

    def begin(self, stop):
        """All images are live, and none has been seen."""
        self.live[...], self.ended[...], self.change[...] = 1, 0, np.inf
        self.stop[...] = cupy.asarray(stop, np.float64)
        self.pending = []

    def launches(self, x):
        """A look at x."""
        batch, n = len(x), math.prod(x.shape[1:])
        compare, blocks = _items("changes", x.dtype, batch, n, self.partial, self.seen, x, self.live)
        arguments = self.live, self.ended, self.change, self.stop, self.partial, blocks, Plan.CHECK, batch
        return [compare, bind("reduce.cu", "judge", x.dtype, (-(-batch // 64),), (64,), arguments)]

    def all_ended(self):
        """Whether all images had ended a few looks ago: the host waits for that look, with later ones in the queue."""
        host, done = self.host[0], cupy.cuda.Event(disable_timing=True)
        self.host.append(self.host.pop(0))
        cupy.asnumpy(self.live, out=host, blocking=False)
        done.record()
        self.pending.append((host, done))
        if len(self.pending) <= Plan.AHEAD:
            return False
        host, done = self.pending.pop(0)
        done.synchronize()
        return not host.any()


_trusted: set[tuple] = set()


def _trust(device, dtype, norm, passes):
    """Check one small solve against the reference, once per device, dtype, norm and kind of passes; raise if it is off.

    24 iterations are three sections: the second is the first to be captured where there are graphs.
    """
    kind = device, dtype, norm, type(passes), type(passes.fft)
    if kind in _trusted:
        return
    _trusted.add(kind)
    shape, random = (64, 64) if passes.fft.graphs else (12, 10), np.random.default_rng(0)
    mask = random.random(shape) < 0.4
    parts = random.standard_normal((2, 1, np.count_nonzero(mask)))
    y, w = parts[0] + 1j * parts[1], np.zeros((1, 2, *shape), complex)
    exact, plan = reference.Plan(mask, norm=norm), Plan(mask, dtype, 1, norm)
    expected, x = np.empty((1, *shape), complex), cupy.empty((1, *shape), dtype)
    exact.iterate(exact.state(w), y, expected, 0.05, 0.3, 1.9, 24)
    plan.iterate(plan.state(cupy.asarray(w)), cupy.asarray(y.astype(dtype)), x, 0.05, 0.3, 1.9, 24)
    error = np.abs(cupy.asnumpy(x) - expected).max() / np.abs(expected).max()
    if not error < 1e4 * np.finfo(dtype).eps:  # rounding is a few eps, a wrong kernel is off by far more
        _trusted.discard(kind)
        raise RuntimeError(
            f"backend 'cupy': device {device} solves a test of shape {shape} in {dtype} with a relative error of "
            f"{error:.1e}: refusing to go on. Please report this with the output of `python -m cupyx.tools.show_config`"
        )
