# SPDX-License-Identifier: MIT
"""The compiled plans (csrc/plans.cpp). Meaning: kspike.reference.

Arrays are C-contiguous; nothing is cast or copied. Complex arrays of one call agree in dtype.
"""

import numpy as np
from numpy.typing import NDArray

lanes: int
"""float32 numbers per vector."""

class State64:
    @property
    def batch(self) -> int: ...
    def copy(self) -> State64: ...
    def field(self) -> NDArray[np.complex64]: ...

class Tape64:
    @property
    def steps(self) -> NDArray[np.int64]: ...

class Plan64:
    def __init__(self, mask: NDArray[np.bool_], threads: int, norm: str = "separable") -> None: ...
    def forward(self, x: NDArray[np.complex64], out: NDArray[np.complex64]) -> NDArray[np.complex64]: ...
    def adjoint(self, y: NDArray[np.complex64], out: NDArray[np.complex64]) -> NDArray[np.complex64]: ...
    def resolvent(self, b: NDArray[np.complex64], rho: float, out: NDArray[np.complex64]) -> NDArray[np.complex64]: ...
    def state(self, w: NDArray[np.complex64]) -> State64: ...
    def tape(self, batch: int) -> Tape64: ...
    def rescale(self, state: State64, t: float, to: float) -> None: ...
    def freeze(self, state: State64, t: float) -> Tape64: ...
    def iterate(
        self,
        state: State64,
        y: NDArray[np.complex64],
        x: NDArray[np.complex64],
        t: float,
        rho: float,
        relax: float,
        iterations: int,
        stop: NDArray[np.float64] | None = None,
        tape: Tape64 | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]: ...
    def tangent(
        self,
        state: State64,
        tape: Tape64,
        g: NDArray[np.complex64],
        dx: NDArray[np.complex64],
        rho: float,
        relax: float,
        iterations: int,
    ) -> None: ...
    def reverse(
        self,
        tape: Tape64,
        g: NDArray[np.complex64],
        y: NDArray[np.complex64],
        w: NDArray[np.complex64],
        rho: float,
        relax: float,
    ) -> None: ...

class State128:
    @property
    def batch(self) -> int: ...
    def copy(self) -> State128: ...
    def field(self) -> NDArray[np.complex128]: ...

class Tape128:
    @property
    def steps(self) -> NDArray[np.int64]: ...

class Plan128:
    def __init__(self, mask: NDArray[np.bool_], threads: int, norm: str = "separable") -> None: ...
    def forward(self, x: NDArray[np.complex128], out: NDArray[np.complex128]) -> NDArray[np.complex128]: ...
    def adjoint(self, y: NDArray[np.complex128], out: NDArray[np.complex128]) -> NDArray[np.complex128]: ...
    def resolvent(
        self, b: NDArray[np.complex128], rho: float, out: NDArray[np.complex128]
    ) -> NDArray[np.complex128]: ...
    def state(self, w: NDArray[np.complex128]) -> State128: ...
    def tape(self, batch: int) -> Tape128: ...
    def rescale(self, state: State128, t: float, to: float) -> None: ...
    def freeze(self, state: State128, t: float) -> Tape128: ...
    def iterate(
        self,
        state: State128,
        y: NDArray[np.complex128],
        x: NDArray[np.complex128],
        t: float,
        rho: float,
        relax: float,
        iterations: int,
        stop: NDArray[np.float64] | None = None,
        tape: Tape128 | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]: ...
    def tangent(
        self,
        state: State128,
        tape: Tape128,
        g: NDArray[np.complex128],
        dx: NDArray[np.complex128],
        rho: float,
        relax: float,
        iterations: int,
    ) -> None: ...
    def reverse(
        self,
        tape: Tape128,
        g: NDArray[np.complex128],
        y: NDArray[np.complex128],
        w: NDArray[np.complex128],
        rho: float,
        relax: float,
    ) -> None: ...
