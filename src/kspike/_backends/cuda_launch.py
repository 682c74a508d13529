# SPDX-License-Identifier: MIT
"""Compile, bind, launch: what lies between the CUDA engine and CuPy, on the caller's current device and stream."""

from __future__ import annotations

import functools

import numpy as np

from kspike._backends import cuda_sources

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

__all__ = ["Section", "bind", "cupy", "cupyx"]

NULL = np.uint64(0)


@functools.cache
def _module(device, file, dtype, defines, capability):
    """The compiled file: from the package if it was built ahead of time, else by NVRTC, whose results CuPy keeps."""
    built = cuda_sources.built(file, dtype, defines, capability)
    if built is not None:
        return cupy.RawModule(path=str(built))
    return cupy.RawModule(code=cuda_sources.source(file), options=cuda_sources.options(dtype, defines))


@functools.cache
def _kernel(device, file, name, dtype, defines, shared):
    capability = int(cupy.cuda.Device(device).compute_capability)
    kernel = _module(device, file, dtype, defines, capability).get_function(name)
    if shared > 48 << 10:
        kernel.max_dynamic_shared_size_bytes = shared
    return kernel


def bind(file, name, dtype, grid, block, arguments, shared=0, defines=()):
    """A launch, to call any number of times while its arrays are kept.

    Of the arguments None is a null pointer, an array its address, an int has 32 bits, a float is of the dtype.
    """
    device = cupy.cuda.Device()
    for a in arguments:
        if isinstance(a, np.ndarray):
            raise TypeError(f"array: expected one of CuPy, got one of NumPy of shape {a.shape}; type cupy.asarray(x)")
        if isinstance(a, cupy.ndarray) and a.device != device:
            raise ValueError(f"array on {a.device}: expected the current device, {device}; type `with x.device:`")
    if max(grid[1:], default=0) > 65535:
        raise ValueError(f"batch: expected at most 65535 images on a GPU at once, got {max(grid[1:])}")
    if 0 in grid:
        return lambda: None
    real = np.float64 if np.dtype(dtype) == np.complex128 else np.float32
    cast = tuple(_value(a, real) for a in arguments)
    kernel = _kernel(device.id, file, name, np.dtype(dtype).name, tuple(defines), shared)
    return functools.partial(kernel, grid, block, cast, shared_mem=shared)


def _value(a, real):
    if a is None:
        return NULL
    if isinstance(a, cupy.ndarray):
        return np.uint64(a.data.ptr)
    if isinstance(a, int):
        return np.int32(a)
    return real(a) if isinstance(a, float) else a


class Section:
    """Launches that follow one another, run again and again: with `graph`, from the second time on as one CUDA graph.

    The first time loads what a capture may not load. The graph is captured on a stream of its own, where nothing runs,
    and launched on the current one: one call of the driver in place of one a kernel.
    """

    def __init__(self, launches, graph=False):
        self.launches, self._graph, self._wanted, self._ran = launches, None, graph, False

    def __call__(self):
        """Run them on the current stream."""
        if self._wanted and self._ran and self._graph is None:
            self._graph = self._capture()
        if self._graph is not None:
            self._graph.launch()
            return
        for launch in self.launches:
            launch()
        self._ran = True

    def _capture(self):
        stream = cupy.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            try:
                for launch in self.launches:
                    launch()
            finally:
                graph = stream.end_capture()
        return graph
