# SPDX-License-Identifier: MIT
"""The CUDA engine without a GPU: NumPy in CuPy's place, g++ with `emulator.hpp` in that of NVRTC and of the device.

`engine()` is the module `kspike._backends.cupy`, unmodified, on NumPy arrays: its sources, sizes, launches and plans
are the ones that run on a GPU.
"""

import contextlib
import ctypes
import hashlib
import importlib.util
import pathlib
import re
import subprocess
import sys
import types

import numpy as np

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
FLAGS = ("-std=c++17", "-O1", "-g1", "-fPIC", "-shared", "-U_FORTIFY_SOURCE", "-Wall", "-Wno-unknown-pragmas")
SHARED_MEMORY = 227 << 10  # bytes a block may have on a GPU of compute capability 9.0


class Kernel:
    """What `RawModule.get_function` gives: called with grid, block and arguments."""

    def __init__(self, library, name):
        self._call = getattr(library, f"call_{name}")
        self._call.restype = ctypes.c_char_p
        self.name, self.max_dynamic_shared_size_bytes = name, 48 << 10

    def __call__(self, grid, block, arguments, *, shared_mem=0):
        assert shared_mem <= self.max_dynamic_shared_size_bytes <= SHARED_MEMORY
        assert np.prod(block) <= 1024
        sizes = [(ctypes.c_uint * 3)(*shape, *[1] * (3 - len(shape))) for shape in (grid, block)]
        values = [np.uint64(a.ctypes.data) if isinstance(a, np.ndarray) else a for a in arguments]
        cells = [np.array([v]) for v in values]
        pointers = (ctypes.c_void_p * len(cells))(*(c.ctypes.data for c in cells))
        message = self._call(*sizes, ctypes.c_size_t(shared_mem), pointers)
        if message:
            raise RuntimeError(f"{self.name}: {message.decode()}")


class Compiler:
    """Builds sources with g++ into a folder, each text and flags once."""

    def __init__(self, folder, flags=(), order=0, patch=None):
        self.folder, self.flags, self.order = pathlib.Path(folder), flags, order
        self.patch, self.patched = patch or (lambda text: text), False

    def library(self, code, options):
        original, code = code, self.patch(code)
        self.patched |= code != original
        kernels = re.findall(r"^KS_KERNEL (?:KS_BOUNDS )?(\w+)\(", code, re.MULTILINE)
        code += "".join(f"\nKS_EXPORT({name})" for name in kernels) + "\n"
        command = ["g++", *FLAGS, *self.flags, *(o for o in options if o.startswith("-D"))]
        header = (HERE / "emulator.hpp").read_text()
        key = hashlib.sha256("\0".join([header, code, *command]).encode()).hexdigest()[:24]
        path = self.folder / f"{key}.so"
        if not path.exists():
            source, made = self.folder / f"{key}.cpp", self.folder / f"{key}.part"
            source.write_text(code)
            command += ["-include", HERE / "emulator.hpp", source, "-o", made]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"g++ failed:\n{done.stderr}")
            made.rename(path)
        library = ctypes.CDLL(str(path))
        library.emulator_order(self.order)
        return library


class Device:
    """The one device, where NumPy arrays live."""

    id, compute_capability = 0, "90"
    attributes = {"MaxSharedMemoryPerBlockOptin": SHARED_MEMORY}  # noqa: RUF012

    def __eq__(self, other):
        return isinstance(other, Device) or other == "cpu"

    def __hash__(self):
        return 0


class Event:
    """Already over."""

    def __init__(self, disable_timing=False):
        pass

    def record(self):
        pass

    def synchronize(self):
        pass


def _asnumpy(a, out=None, blocking=True):
    if out is None:
        return a.copy()
    out[...] = a
    return out


def _transform(function):
    def transform(x, axes, norm, overwrite_x):
        x[...] = function(x, axes=axes, norm=norm)
        return x

    return transform


def _cupy(compiler):
    """Modules that do what `kspike._backends.cupy` asks of CuPy."""

    class RawModule:
        def __init__(self, code, options):
            self._library = compiler.library(code, options)

        def get_function(self, name):
            return Kernel(self._library, name)

    cupy = types.ModuleType("cupy")
    same = "ndarray asarray copyto empty empty_like float64 full int32 int64 may_share_memory ones uint32 zeros_like"
    for name in same.split():
        setattr(cupy, name, getattr(np, name))
    cupy.__version__, cupy.RawModule, cupy.asnumpy, cupy.is_available = "emulated", RawModule, _asnumpy, lambda: True
    cupy.cuda = types.SimpleNamespace(Device=Device, Event=Event)
    cupyx, scipy, fft = (types.ModuleType(name) for name in ("cupyx", "cupyx.scipy", "cupyx.scipy.fft"))
    cupyx.empty_pinned, cupyx.scipy, scipy.fft = np.empty, scipy, fft
    fft.fft2, fft.ifft2 = _transform(np.fft.fft2), _transform(np.fft.ifft2)
    return {m.__name__: m for m in (cupy, cupyx, scipy, fft)}


@contextlib.contextmanager
def _imported(modules):
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def engine(folder, **options):
    """The engine, its libraries built into `folder`. Options: those of `Compiler`."""
    import kspike._backends

    path = pathlib.Path(kspike._backends.__file__).parent / "cupy.py"
    spec = importlib.util.spec_from_file_location("kspike._backends.emulated", path)
    module = importlib.util.module_from_spec(spec)
    module.compiler = Compiler(folder, **options)
    with _imported(_cupy(module.compiler)):
        spec.loader.exec_module(module)
    return module
