# SPDX-License-Identifier: MIT
"""The CUDA engine without a GPU: `arrays` in CuPy's place, g++ with `emulator.hpp` in that of NVRTC and the device.

`engine()` is the module `kspike._backends.cupy`, unmodified: its sources, sizes, launches, graphs and plans are those
that run on a GPU.
"""

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import pathlib
import re
import subprocess
import sys

import arrays
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
        cells = [np.array([v]) for v in arguments]
        arrays.run(functools.partial(self._run, sizes, cells, shared_mem))

    def _run(self, sizes, cells, shared_mem):
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


def _cupy(compiler):
    """The modules that the engine imports; sources become libraries."""

    class RawModule:
        def __init__(self, code, options):
            self._library = compiler.library(code, options)

        def get_function(self, name):
            return Kernel(self._library, name)

    return arrays.modules(RawModule)


OURS = ("kspike._backends.cuda_launch", "kspike._backends.cuda_passes")  # imported anew for each engine


@contextlib.contextmanager
def _imported(modules):
    before = {name: sys.modules.pop(name, None) for name in (*modules, *OURS)}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


def engine(folder, **options):
    """The engine, its libraries built into `folder`. Options: those of `Compiler`."""
    import kspike._backends

    path = pathlib.Path(kspike._backends.__file__).parent / "cupy.py"
    spec = importlib.util.spec_from_file_location("kspike._backends.cupy", path)
    module = importlib.util.module_from_spec(spec)
    module.compiler = Compiler(folder, **options)
    with _imported(_cupy(module.compiler)):
        spec.loader.exec_module(module)
    return module
