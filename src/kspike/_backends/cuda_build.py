# SPDX-License-Identifier: MIT
"""Compile the CUDA sources ahead of time, without a GPU or a toolkit: python -m kspike._backends.cuda_build [FOLDER]

NVRTC makes the machine code for each compute capability, nvFatbin puts those of one source and PTX for later devices
into one file: pip install nvidia-cuda-nvrtc nvidia-nvfatbin. The engine takes these files in place of compiling, as
long as they are of its very sources. KSPIKE_BUILD_CUDA=1 at the installation runs this.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import pathlib
import re
import sys

from kspike._backends import cuda_sources

__all__ = ["build", "compile_source", "fatbin", "library"]


def library(name):
    """libnvrtc or libnvfatbin from its wheel, or as the system has it. Raises ImportError, with the line to type."""
    wheels = [pathlib.Path(folder) / "nvidia" for folder in sys.path]
    for path in (path for wheel in wheels for path in sorted(wheel.glob(f"*/lib/lib{name}.so.*"))):
        for builtins in path.parent.glob("libnvrtc-builtins.so.*"):  # opened by its bare name, so it has to be there
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
        return ctypes.CDLL(str(path))
    for loaded in (f"lib{name}.so.13", f"lib{name}.so"):
        try:
            return ctypes.CDLL(loaded)
        except OSError:
            continue
    wheel = {"nvrtc": "nvidia-cuda-nvrtc", "nvfatbin": "nvidia-nvfatbin"}[name]
    raise ImportError(f"lib{name} not found: pip install {wheel}")


def compile_source(nvrtc, file, dtype, defines, arch):
    """What NVRTC makes of a file for "sm_90", say, or PTX for "compute_90": (the code, the log with its resources)."""
    flags = [*cuda_sources.options(dtype, defines), f"-arch={arch}", "--ptxas-options=-v"]
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), cuda_sources.source(file).encode(), file.encode(), 0, None, None)
    failed = nvrtc.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*map(str.encode, flags)))

    def read(what):
        getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        getattr(nvrtc, f"nvrtcGet{what}")(program, text)
        return text.raw

    log = read("ProgramLog").rstrip(b"\0").decode()
    code = b"" if failed else read("CUBIN" if arch.startswith("sm_") else "PTX")
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    if failed or "warning" in log:
        raise RuntimeError(f"{file} {dtype} {dict(defines)} {arch}:\n{log}")
    return code, log


def fatbin(nvfatbin, codes):
    """One container of machine codes and PTX, given by arch."""
    handle, size = ctypes.c_void_p(), ctypes.c_size_t()

    def call(name, *arguments):
        status = getattr(nvfatbin, f"nvFatbin{name}")(*arguments)
        if status:
            nvfatbin.nvFatbinGetErrorString.restype = ctypes.c_char_p
            raise RuntimeError(f"nvFatbin{name}: {nvfatbin.nvFatbinGetErrorString(status).decode()}")

    options = (ctypes.c_char_p * 2)(b"-64", b"-host=linux")
    call("Create", ctypes.byref(handle), options, ctypes.c_size_t(2))
    for arch, code in codes.items():
        number, length = re.sub(r"\D", "", arch).encode(), ctypes.c_size_t(len(code))
        if arch.startswith("sm_"):
            call("AddCubin", handle, code, length, number, b"kspike")
        else:
            call("AddPTX", handle, code, length, number, b"kspike", b"")
    call("Size", handle, ctypes.byref(size))
    container = ctypes.create_string_buffer(size.value)
    call("Get", handle, container)
    call("Destroy", ctypes.byref(handle))
    return container.raw


def build(folder, wanted=lambda file, dtype, defines: True, threads=2):
    """Compile what the engine would, as far as `wanted`, into a folder that holds nothing else: the paths."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    capabilities = {}
    for capability in cuda_sources.SHARED:
        for file, dtype, sizes in cuda_sources.configurations(capability):
            if wanted(file, dtype, sizes.defines):
                capabilities.setdefault((file, dtype, sizes.defines), []).append(capability)
    nvrtc, nvfatbin = library("nvrtc"), library("nvfatbin")

    def one(configuration, found):
        codes = {f"sm_{c}": compile_source(nvrtc, *configuration, f"sm_{c}")[0] for c in found}
        last = f"compute_{found[-1]}"
        codes[last] = compile_source(nvrtc, *configuration, last)[0]
        path = folder / cuda_sources.key(*configuration)
        path.write_bytes(fatbin(nvfatbin, codes))
        return path

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        paths = list(pool.map(one, capabilities, capabilities.values()))
    for path in set(folder.glob("*.fatbin")) - set(paths):
        path.unlink()
    return paths


if __name__ == "__main__":
    made = build(sys.argv[1] if len(sys.argv) > 1 else cuda_sources.BUILT)
    sys.stdout.write(f"{len(made)} files, {sum(path.stat().st_size for path in made) / 2**20:.1f} MiB\n")
