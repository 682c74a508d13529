# SPDX-License-Identifier: MIT
"""Compile the CUDA sources with NVRTC, which needs no GPU, as the engine does; a register spill is a failure.

    python tests/cuda/nvrtc.py [8 9 10]

The numbers are compute capabilities, 8 for 8.0. Prints registers, shared memory and the share of a multiprocessor's
threads at work for each kernel. Needs nvidia-cuda-nvrtc (pip).
"""

import ctypes
import pathlib
import re
import sys
import sysconfig

import numpy as np

from kspike._backends import cuda_sources

ARCHITECTURES = (8, 9, 10)
DTYPES = ("complex64", "complex128")
REGISTERS, THREADS, BLOCKS = 65536, 2048, 32  # of a multiprocessor, on all three
SHARED = {8: 164 << 10, 9: 228 << 10, 10: 228 << 10}
REPORT = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers",
    re.DOTALL,
)


def library():
    """NVRTC from the wheel, or None. It opens its builtins by bare name, so they are loaded first."""
    for path in pathlib.Path(sysconfig.get_paths()["purelib"]).glob("nvidia/*/lib/libnvrtc.so.*"):
        for builtins in path.parent.glob("libnvrtc-builtins.so.*"):
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
        return ctypes.CDLL(str(path))
    return None


def compile_report(nvrtc, file, dtype, defines, architecture):
    """Kernel -> (registers, spilled bytes, bytes of stack). Raises RuntimeError with the log if it does not compile."""
    flags = [*cuda_sources.options(dtype, dict(defines)), f"-arch=sm_{architecture}0", "--ptxas-options=-v"]
    program = ctypes.c_void_p()
    text = cuda_sources.source(file).encode()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, file.encode(), 0, None, None)
    failed = nvrtc.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*map(str.encode, flags)))
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    if failed or b"warning" in log.value:
        raise RuntimeError(f"{file} {dtype} {dict(defines)} sm_{architecture}0:\n{log.value.decode()}")
    return {
        name: (int(registers), int(stores) + int(loads), int(stack))
        for name, stack, stores, loads, registers in REPORT.findall(log.value.decode())
    }


def configurations(architecture):
    """All that the engine compiles for it: (file, dtype, defines, threads a block, bytes of shared memory a block)."""
    for dtype in DTYPES:
        for file in ("stencil.cu", "kspace.cu", "reduce.cu"):
            yield file, dtype, (), 256, 4096 if file == "reduce.cu" else 0
        for kind in ("cols", "rows"):
            for n in (64, 128, 256, 512, 1024, 2048, 4096):
                sizes = cuda_sources.launch_sizes(kind, n, dtype, 10 * architecture)
                if sizes is not None and sizes.shared < SHARED[architecture]:
                    yield f"{kind}.cu", dtype, sizes.defines, int(np.prod(sizes.block)), sizes.shared


def occupancy(architecture, registers, threads, shared):
    """The share of a multiprocessor's threads that fit."""
    by_registers = REGISTERS // (-(-registers // 8) * 8 * threads)
    by_shared = SHARED[architecture] // (shared + 1024)
    return min(by_registers, by_shared, THREADS // threads, BLOCKS) * threads / THREADS


def main():
    nvrtc = library()
    if nvrtc is None:
        return "libnvrtc not found: pip install nvidia-cuda-nvrtc==13.0.88"
    spills = 0
    for architecture in map(int, sys.argv[1:] or ARCHITECTURES):
        for file, dtype, defines, threads, shared in configurations(architecture):
            n = dict(defines).get("KS_N", "")
            for name, (registers, spilled, _) in compile_report(nvrtc, file, dtype, defines, architecture).items():
                share = occupancy(architecture, registers, threads, shared)
                spills += spilled > 0
                sys.stdout.write(
                    f"sm_{architecture}0 {dtype:10} {n:4} {name:21} {registers:3} registers  {threads:4} threads  "
                    f"{shared / 1024:5.1f} KiB  {share:4.0%}{f'  {spilled} BYTES SPILLED' if spilled else ''}\n"
                )
    return f"{spills} kernels spill registers" if spills else 0


if __name__ == "__main__":
    sys.exit(main())
