# SPDX-License-Identifier: MIT
"""Who may import whom: the floors of docs/design.md, read from the source."""

import ast
import pathlib

import pytest

import kspike

PACKAGE = pathlib.Path(kspike.__file__).parent

# A module imports from its own package only what lies on lower floors.
FLOORS = {
    "_core": 0,
    "_kernels": 0,
    "_csrc": 0,
    "_core_v3": 0,
    "_core_v4": 0,
    "_kernels_v3": 0,
    "_kernels_v4": 0,
    "door": 0,
    "files": 0,
    "reference": 0,
    "sampling": 1,
    "phantoms": 1,
    "images": 1,
    "metrics": 1,
    "transfer": 1,
    "_backends": 1,
    "ascent": 1,
    "objectives": 1,
    "norms": 1,
    "baselines": 2,
    "kernels": 2,
    "plots": 2,
    "operators": 3,
    "attack": 4,
    "bound": 4,
    "certificate": 4,
    "derivative": 4,
    "unrolled": 4,
    "warm": 4,
    "outcome": 1,
    "sparsifiers": 4,
    "exact": 5,
    "solver": 5,
    "iterative": 6,
    "sparse": 7,
    "tuning": 6,
    "torch": 6,
    "methods": 7,
    "nets": 7,
    "interop": 8,
    "sweep": 8,
    "paper": 9,
    "cli": 10,
    "__main__": 11,
    "__init__": 11,
}

# The one place, or the places, of each heavy neighbour.
PLACES = {
    "numba": {"_backends/numba.py"},
    "scipy": {"_backends/numba.py", "interop/scipy.py"},
    "cupy": {"_backends/cuda_launch.py", "interop/arrays.py"},
    "pywt": {"sparsifiers.py"},
    "torch": {"interop/deepinv.py", "interop/mrpro.py"}
    | {
        p.relative_to(PACKAGE).as_posix()
        for room in ("torch", "nets", "interop/robust_nets")
        for p in (PACKAGE / room).glob("*.py")
    },
    "safetensors": {"nets/checkpoint.py"},
    "matplotlib": {f"plots/{name}.py" for name in ("canvas", "charts", "panels")},
    "h5py": {"images.py"},
    "PIL": {"images.py"},
    "tqdm": {
        "cli/options.py",
        *(f"interop/robust_nets/{name}.py" for name in ("find_adversarial", "localized", "reconstruction_methods")),
    },
    "pylops": {"interop/pylops.py"},
    "sigpy": {"interop/sigpy.py"},
    "deepinv": {"interop/deepinv.py"},
    "mrpro": {"interop/mrpro.py"},
    "yaml": {"sweep/specification.py"},
    "zarr": {"sweep/pack.py"},
    "pyarrow": {"sweep/pack.py"},
    "distributed": {"sweep/launch.py"},
    "submitit": {"sweep/launch.py"},
}

SOURCES = sorted(PACKAGE.rglob("*.py"))


def room(path):
    """The module or subpackage directly under kspike that the file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path):
    """What the file imports, anywhere in it, as absolute names; by importlib too, where the name is written out."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}, line {node.lineno}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_go_down(path):
    here = room(path)
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "kspike" and rest and rest[0] != here:
            assert FLOORS[rest[0]] < FLOORS[here], f"{here} imports {rest[0]}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_neighbours_are_imported_in_one_place(path):
    where = path.relative_to(PACKAGE).as_posix()
    for name in imports(path):
        neighbour = name.partition(".")[0]
        assert where in PLACES.get(neighbour, {where}), f"{where} imports {neighbour}"


def test_every_room_has_a_floor():
    assert {room(path) for path in SOURCES} <= set(FLOORS)


def test_the_attack_knows_no_reconstruction():
    assert not {n for n in imports(PACKAGE / "attack.py") if "solver" in n or "torch" in n}
