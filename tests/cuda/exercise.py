# SPDX-License-Identifier: MIT
"""Run every kernel of the CUDA engine on the emulator, against the reference; a process of its own for a sanitizer.

    LD_PRELOAD=$(g++ -print-file-name=libtsan.so) python exercise.py FOLDER --flags=-fsanitize=thread

FOLDER takes the libraries. Prints the largest error; exits with 1 if it is larger than rounding.
"""

import argparse
import pathlib
import sys

import emulator
import numpy as np

from kspike import _backends, reference

T, RHO, RELAX = 0.1, 0.4, 1.9
ROUNDING = 1e-11  # in complex128; the smallest fault there is is off by far more
OWN, OTHER = (64, 64), (7, 10)  # a shape with transforms of our own, and one with those of a library


class Exercise:
    """What the engine found and what the reference says, by name."""

    def __init__(self, engine, shape, dtype="complex128", batch=2, iterations=23, stop=(0.3, 1e-3)):
        self.engine, self.dtype, self.batch = engine, dtype, batch
        self.iterations, self.stop = iterations, None if stop is None else np.array(stop)
        self.rng = np.random.default_rng(7)
        self.mask = self.rng.random(shape) < 0.4
        self.mask[shape[0] // 2, shape[1] // 2] = True
        m = np.count_nonzero(self.mask)
        self.x, self.w, self.y = self.draw(batch, *shape), 0.2 * self.draw(batch, 2, *shape), self.draw(batch, m)
        self.bits = self.rng.integers(0, 16, (batch, *shape), np.uint8)
        self.found, self.expected = {}, {}

    def draw(self, *shape):
        """Random numbers that complex64 holds too."""
        return (self.rng.standard_normal((*shape, 2)).astype(np.float32).astype(float) @ [1, 1j]).reshape(shape)

    def put(self, a):
        """An array on the device, complex ones in the precision of the engine."""
        if not isinstance(a, np.ndarray):
            return a
        return self.engine.cupy.asarray(a.astype(self.dtype) if a.dtype.kind == "c" else a)

    def fresh(self, like):
        return self.engine.cupy.full(like.shape, np.nan, self.dtype)

    def kernels(self):
        """Every kernel of the contract."""
        x, w, bits = self.x, self.w, self.bits
        arguments = {
            "grad": (w, x),
            "grad_adjoint": (x, w),
            "clip": (w, w, T),
            "shrink": (w, w, T),
            "support": (bits, w, T),
            "reflect": (x, w, T),
            "reflect_tangent": (x, w, bits),
            "shrink_update": (w, w, x, T, RELAX),
            "shrink_update_tangent": (w, w, x, bits, RELAX),
            "shrink_update_adjoint": (w, w, x, bits, RELAX, RHO),
        }
        for name in _backends.KERNELS:
            like, *given = arguments[name]
            out = self.put(np.full_like(bits, 255)) if name == "support" else self.fresh(like)
            self.found[name] = getattr(self.engine, name)(*map(self.put, given), out)
            self.expected[name] = getattr(reference, name)(*given)
        return self

    def plan(self, norm="separable"):
        """Transforms, a solve with a tape and one without, the reverse sweep, the tangent."""
        for kind, put, into, make in (
            (self.dtype, self.put, self.found, self.engine.Plan),
            ("complex128", lambda a: a, self.expected, reference.Plan),
        ):
            plan, x, y = make(self.mask, kind, 1, norm), put(self.x), put(self.y)
            room = {name: put(np.full(a.shape, np.nan, complex)) for name, a in (("x", x), ("y", y), ("w", self.w))}
            into["forward"] = plan.forward(x, room["y"].copy())
            into["adjoint"] = plan.adjoint(y, room["x"].copy())
            into["resolvent"] = plan.resolvent(x, RHO, room["x"].copy())
            state, tape, solution = plan.state(put(self.w)), plan.tape(self.batch), room["x"].copy()
            ran = plan.iterate(state, y, solution, T, RHO, RELAX, self.iterations, stop=self.stop, tape=tape)
            into["count"], into["x"], into["field"] = ran[0], solution, state.field()
            if self.stop is not None and np.isfinite(ran[1]).all():
                into["change"] = ran[1]
            into["reverse y"], into["reverse w"] = room["y"].copy(), room["w"].copy()
            plan.reverse(tape, x, into["reverse y"], into["reverse w"], RHO, RELAX)
            tangent, into["tangent"] = plan.state(put(self.w)), room["x"].copy()
            plan.tangent(tangent, plan.freeze(state, T), x, into["tangent"], RHO, RELAX, 3)
            into["tangent field"], into["again"] = tangent.field(), room["x"].copy()
            plan.iterate(state, y, into["again"], T, RHO, RELAX, 3)
        return self

    def solve(self):
        """One iteration."""
        state, self.found["x"] = self.engine.Plan(self.mask, self.dtype).state(self.put(self.w)), self.fresh(self.x)
        plan = self.engine.Plan(self.mask, self.dtype)
        plan.iterate(state, self.put(self.y), self.found["x"], T, RHO, RELAX, 1)
        exact, self.expected["x"] = reference.Plan(self.mask), np.empty_like(self.x)
        exact.iterate(exact.state(self.w), self.y, self.expected["x"], T, RHO, RELAX, 1)
        return self

    def attack_step(self):
        """Norms, projections and the peak."""
        e, g, keep, eta = self.y, self.y[::-1].copy(), 0.6, np.arange(2.0, 2.0 + self.batch)

        def unit(v):
            return eta[:, None] * v / np.linalg.norm(v, axis=1, keepdims=True)

        self.found["momentum"] = self.engine.momentum(self.put(e), self.put(g), keep, self.put(eta), self.fresh(e))
        self.expected["momentum"] = keep * e + (1 - keep) * unit(g)
        self.found["normalise"] = self.engine.normalise(self.put(e), self.put(eta), self.fresh(e))
        self.expected["normalise"] = unit(e)
        self.found["peak"], self.found["place"] = self.engine.peak(self.put(self.x))
        flat = np.abs(self.x).reshape(self.batch, -1)
        self.expected["peak"], self.expected["place"] = flat.max(1), flat.argmax(1)
        return self

    def errors(self):
        """Name -> largest difference over largest modulus; inf where anything is NaN."""
        found = {}
        for name in self.expected.keys() & self.found.keys():
            value = self.expected[name]
            mine = self.engine.cupy.asnumpy(self.found[name]).astype(complex)
            difference = np.abs(mine - value).max() / (np.abs(value).max() or 1)
            found[name] = np.inf if np.isnan(difference) else difference
        return found


def planted(old, new):
    """A patch for the sources: `old`, which has to be there, becomes `new` where it stands first."""

    def patch(text):
        return text.replace(old, new, 1)

    return patch


# What a fault is -> (the patch that plants it, the sanitizer that sees it beside a wrong result)
FAULTS = {
    "no barrier before an exchange is read": (
        planted(
            """      __syncthreads();
      if (active) {
#pragma unroll
        for (int i = 0""",
            """      if (active) {
#pragma unroll
        for (int i = 0""",
        ),
        "thread",
    ),
    "no barrier before an exchange is overwritten": (
        planted("    if constexpr (Done * R < KS_N) {\n      __syncthreads();", "    if constexpr (Done * R < KS_N) {"),
        "thread",
    ),
    "x is read before the rows beside it are there": (
        planted("line[at(r.t, i)] = v[i];\n  __syncthreads();", "line[at(r.t, i)] = v[i];"),
        "thread",
    ),
    "a shared index is off by a line": (planted("KS_ROWS + 1 + threadIdx.y", "KS_ROWS + 2 + threadIdx.y"), "address"),
    "a shared index is off by one": (planted("right = i == KS_PER - 1", "right = 1 + i == KS_PER - 1"), None),
    "the row above the first is not the last": (planted("up = y == 0 ? rows - 1", "up = y == 0 ? 0"), None),
    "the pixel on the left of the first is not the last": (planted("first ? KS_N - 1", "first ? 0"), None),
    "in a joint norm the pixel on the left is advanced with another's difference": (
        planted("grad_at(p, f, p.i, p.left(), p.down(), p.j)", "grad_at(p, f, p.i, p.left(), p.down(), p.right())"),
        None,
    ),
    "the bits on the left of the first are not the last's": (
        planted("<< 4 | row[W - 1] >> 28", "<< 28 | row[W - 1] >> 4"),
        None,
    ),
}


def main():
    """Each kernel at least once, few times: sanitizers take their time. With a fault, only what shows it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--flags", default="")
    parser.add_argument("--fault", choices=FAULTS)
    given = parser.parse_args()
    patch = given.fault and FAULTS[given.fault][0]
    engine = emulator.engine(given.folder, flags=given.flags.split(), patch=patch)
    engine._trust = lambda *passes: None  # it would only do the same again
    own = Exercise(engine, OWN, batch=1, iterations=1 if patch else 2, stop=None)
    errors = own.solve().errors() if patch else own.plan().errors()
    if not patch:
        engine.Plan.CHECK = 1
        errors |= Exercise(engine, OTHER, batch=1, iterations=1, stop=(-1,)).kernels().plan().attack_step().errors()
        joint = Exercise(engine, OTHER, batch=1, iterations=1, stop=(-1,)).plan("isotropic").errors()
        errors |= {f"{name}, isotropic": error for name, error in joint.items()}
    if given.fault and not engine.compiler.patched:
        return f"{given.fault}: its place is not in the sources"
    worst = max(errors, key=errors.get)
    sys.stdout.write(f"{worst}: {errors[worst]:.1e}\n")
    return not errors[worst] < ROUNDING


if __name__ == "__main__":
    sys.exit(main())
