# SPDX-License-Identifier: MIT
"""Compile the CUDA sources with NVRTC, which needs no GPU, as the engine does; a register spill is a failure.

    python tests/cuda/nvrtc.py [8 9 10]

The numbers are compute capabilities, 8 for 8.0. Prints registers, shared memory and the share of a multiprocessor's
threads at work for each kernel. Needs nvidia-cuda-nvrtc (pip).
"""

import re
import sys

import numpy as np

from kspike._backends import cuda_build, cuda_sources

ARCHITECTURES = (8, 9, 10)
REGISTERS, THREADS, BLOCKS = 65536, 2048, 32  # of a multiprocessor, on all three
REPORT = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers",
    re.DOTALL,
)


def compile_report(nvrtc, file, dtype, defines, architecture):
    """Kernel -> (registers, spilled bytes, bytes of stack). Raises RuntimeError with the log if it does not compile."""
    _, log = cuda_build.compile_source(nvrtc, file, dtype, defines, f"sm_{architecture}0")
    return {
        name: (int(registers), int(stores) + int(loads), int(stack))
        for name, stack, stores, loads, registers in REPORT.findall(log)
    }


def occupancy(architecture, registers, threads, shared):
    """The share of a multiprocessor's threads that fit."""
    by_registers = REGISTERS // (-(-registers // 8) * 8 * threads)
    by_shared = (cuda_sources.SHARED[10 * architecture] + 1024) // (shared + 1024)
    return min(by_registers, by_shared, THREADS // threads, BLOCKS) * threads / THREADS


def main():
    nvrtc = cuda_build.library("nvrtc")
    spills = 0
    for architecture in map(int, sys.argv[1:] or ARCHITECTURES):
        for file, dtype, sizes in cuda_sources.configurations(10 * architecture):
            defines, shared, threads = dict(sizes.defines), sizes.shared, int(np.prod(sizes.block))
            size = defines.get("KS_N", defines.get("KS_GROUP", ""))
            report = compile_report(nvrtc, file, dtype, sizes.defines, architecture)
            for name, (registers, spilled, _) in report.items():
                share = occupancy(architecture, registers, threads, shared)
                spills += spilled > 0
                sys.stdout.write(
                    f"sm_{architecture}0 {dtype:10} {size:4} {name:21} {registers:3} registers  {threads:4} threads  "
                    f"{shared / 1024:5.1f} KiB  {share:4.0%}{f'  {spilled} BYTES SPILLED' if spilled else ''}\n"
                )
    return f"{spills} kernels spill registers" if spills else 0


if __name__ == "__main__":
    sys.exit(main())
