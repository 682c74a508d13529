# SPDX-License-Identifier: MIT
"""The package as a whole: its names, and an import that is light, quick, and survives its optional neighbours."""

import pathlib
import subprocess
import sys

import kspike

SOURCE = pathlib.Path(kspike.__file__).parents[1]

PUBLIC = {
    "Gradient",
    "MaskedFourier",
    "TVSolver",
    "attack",
    "ellipses",
    "kernels",
    "radial_mask",
    "spike",
}
HEAVY = ("numba", "scipy", "torch", "matplotlib", "cupy", "h5py", "PIL", "tqdm", "xarray", "dask")


def python(code, *paths):
    """Run the code in a fresh interpreter that finds kspike, and first of all what lies in the paths."""
    lines = [f"import sys; sys.path[:0] = {[str(p) for p in (*paths, SOURCE)]}", *code]
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True).stdout


def test_the_public_names():
    assert set(kspike.__all__) >= PUBLIC
    for name in kspike.__all__:
        assert getattr(kspike, name).__doc__, name


def test_the_five_lines_of_the_docstring():
    tv = kspike.TVSolver(kspike.radial_mask((32, 32), lines=10), lam=5.6e-3)
    y = tv.A(kspike.ellipses((32, 32), seed=0))
    assert kspike.attack(tv, y, noise=0.04, grid=(2, 2)).amplification > 1


def test_import_takes_numpy_only():
    loaded = python(["import kspike", "print(*sys.modules)"]).split()
    assert {name.partition(".")[0] for name in loaded} & set(HEAVY) == set()
    assert not any(name.startswith(("kspike._core", "kspike._kernels")) for name in loaded)


def test_import_takes_less_than_150_ms():
    """NumPy takes some 90 of them. The best of five, in CPU time: the work, not what else the machine does."""
    code = ["import numpy, time; start = time.process_time()", "import kspike", "print(time.process_time() - start)"]
    assert min(float(python(code)) for _ in range(5)) < 0.060


def test_a_broken_cupy_harms_nobody(tmp_path):
    """Import and solve on the CPU with a CuPy that cannot be imported; asking for it shows its own error."""
    (tmp_path / "cupy").mkdir()
    (tmp_path / "cupy" / "__init__.py").write_text("raise ImportError('libcudart.so is older than the driver')\n")
    code = [
        "import kspike, numpy as np",
        "tv = kspike.TVSolver(np.ones((8, 8), bool), 0.1)",
        "print(tv(np.ones(64, 'complex64')).shape)",
        "try: kspike.TVSolver(np.ones((8, 8), bool), 0.1, backend='cupy')",
        "except ImportError as error: print(error)",
    ]
    printed = python(code, tmp_path)
    assert "(8, 8)" in printed and "libcudart.so is older than the driver" in printed
