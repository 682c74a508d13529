# SPDX-License-Identifier: MIT
"""The keys of a specification and what each may be. An error names the key, what was expected and what came."""

from __future__ import annotations

import dataclasses
import difflib
import glob
import importlib
import math
import os
import pathlib

from kspike import ascent, door, files, tuning
from kspike.attack import PRESETS, STARTS
from kspike.norms import NORMS
from kspike.objectives import OBJECTIVES
from kspike.sweep import material

__all__ = [
    "BACKENDS",
    "KEEP",
    "attack",
    "entries",
    "few",
    "images",
    "mask",
    "names",
    "number",
    "one_of",
    "reconstruction",
    "table",
]

KEEP = ("perturbation", "perturbations", "artifact", "image_perturbation", "reconstruction", "clean")
BACKENDS = (None, "cpp", "numba", "cupy", "reference")
TUNED_ON = 3  # images
COUNT, LINES = 2**16, 2**12  # the most images of one entry, and lines of a mask: what asks for more is a slip


def images(at, entry, folder):
    """The descriptions of the images of one entry."""
    kinds = {
        "ellipses": ("size", "seed", "count"),
        "shepp_logan": ("size",),
        "file": ("path", "slice", "size", "key"),
        "folder": ("path", "pattern", "slice", "size", "count", "key"),
    }
    kind = one_of(f"{at}.kind", table(at, entry, None, ("kind",))["kind"], tuple(kinds))
    need = ("path",) if kind in ("file", "folder") else ()
    table(at, entry, ("kind", *kinds[kind]), need)
    if kind in ("ellipses", "shepp_logan"):
        size = entry.get("size", 256)
        shape = list(door.shape2(size if isinstance(size, list) else (size, size), f"{at}.size"))
        few(f"{at}.size", math.prod(shape), files.LARGEST, "pixels")
        if kind == "shepp_logan":
            return [{"kind": kind, "name": "shepp_logan", "shape": shape}]
        seed, count = door.whole(f"{at}.seed", entry.get("seed", 0), 0), entry.get("count", 1)
        seeds = range(seed, seed + door.whole(f"{at}.count", count, 1, COUNT))
        return [{"kind": kind, "name": f"ellipses {seed}", "shape": shape, "seed": seed} for seed in seeds]
    if kind == "file":
        paths = [_existing(f"{at}.path", entry["path"], folder)]
    else:
        where = folder / entry["path"]
        if not where.is_dir():
            raise ValueError(f"{at}.path: expected a folder, got {where}")
        pattern = str(entry.get("pattern", "*.h5"))
        paths = [where / p for p in sorted(glob.glob(pattern, root_dir=where))]
        paths = paths[: door.whole(f"{at}.count", entry.get("count", max(len(paths), 1)), 1)]
        if not paths:
            raise ValueError(f"{at}.pattern: expected files {pattern} in {where}, got none")
    slices = entry.get("slice")
    found = []
    for path in paths:
        for index in slices if isinstance(slices, list) else [slices]:
            d = {"kind": "file", "path": str(path), "slice": index, "size": entry.get("size"), "key": entry.get("key")}
            try:
                array = material.image(d)
            except (TypeError, ValueError, OSError) as error:
                raise ValueError(f"{at}: {error}") from None
            name = path.stem if index is None else f"{path.stem} {index}"
            found.append(d | {"name": name, "shape": list(array.shape), "sha256": material.array_hash(array)})
    return found


def mask(at, entry, folder, shape):
    """The description of one mask."""
    kinds = {
        "radial": ("lines", "offset"),
        "cartesian": ("acceleration", "center_fraction", "seed"),
        "file": ("path", "key"),
    }
    kind = one_of(f"{at}.kind", table(at, entry, None, ("kind",))["kind"], tuple(kinds))
    table(at, entry, ("kind", "name", *kinds[kind]), {"radial": ("lines",), "file": ("path",)}.get(kind, ()))
    d = {**entry, "shape": list(shape)}
    if kind == "file":
        path = d["path"] = str(_existing(f"{at}.path", entry["path"], folder))
        d.setdefault("name", f"{pathlib.Path(path).stem}{' ' * ('key' in d)}{d.get('key', '')}")
    else:
        if kind == "radial" and isinstance(d["lines"], int):
            few(f"{at}.lines", d["lines"], LINES, "lines")
        d.setdefault("name", f"radial {d['lines']}" if kind == "radial" else f"cartesian {d.get('acceleration', 4)}")
    try:
        array = material.mask(d)
    except (TypeError, ValueError, OSError) as error:
        raise ValueError(f"{at}: {error}") from None
    return d | ({"sha256": material.array_hash(array)} if kind == "file" else {})


def reconstruction(at, entry, folder, levels, pictures):
    """The description of one reconstruction; lam may be a table with an entry for each of the noise levels."""
    kind = one_of(f"{at}.kind", table(at, entry, None, ("kind",))["kind"], ("tv", "network", "python"))
    if kind == "network":
        table(at, entry, ("kind", "name", "checkpoint"), need=("checkpoint",))
        path = _checkpoint(f"{at}.checkpoint", str(entry["checkpoint"]), folder)
        return {"name": path.stem, **entry, "checkpoint": str(path), "sha256": material.file_hash(path)}
    if kind == "python":
        table(at, entry, ("kind", "name", "make", "options"), need=("make",))
        if str(entry["make"]).count(":") != 1:
            raise ValueError(f"{at}.make: expected module:function, got {entry['make']!r}")
        return {"name": entry["make"].partition(":")[2], "options": {}, **entry}
    table(at, entry, ("kind", "name", "lam", "tune", "norm", "rho", "relax"), need=("lam",))
    found = {"name": "tv", "norm": "separable", "relax": 1.9, **entry}
    one_of(f"{at}.norm", found["norm"], NORMS)
    found["relax"] = number(f"{at}.relax", found["relax"], 0, 2)
    if "rho" in found:
        found["rho"] = number(f"{at}.rho", found["rho"], 0)
    found["lam"] = _lam(at, found["lam"], found.pop("tune", {}), levels, pictures)
    return found


def _lam(at, lam, tune, levels, pictures):
    """A number; a table of them, one for each noise level; or how it is tuned."""
    if lam == "tuned":
        table(f"{at}.tune", tune, ("images", "criterion"))
        count = door.whole(f"{at}.tune.images", tune.get("images", TUNED_ON), 1)
        criterion = one_of(f"{at}.tune.criterion", tune.get("criterion", "truth"), tuning.CRITERIA)
        return {"criterion": criterion, "images": pictures[:count]}
    if tune:
        raise ValueError(f"{at}.tune: expected only beside lam: tuned, got it beside lam: {lam!r}")
    if isinstance(lam, dict):
        given = {number(f"{at}.lam", noise, 0, 1): number(f"{at}.lam", value, 0) for noise, value in lam.items()}
        missing = [level for level in levels if level not in given]
        if missing:
            raise ValueError(f"{at}.lam: expected a number for every noise level, got none for {missing}")
        return given
    if isinstance(lam, str) and not lam[:1].isdigit():
        raise ValueError(f"{at}.lam: expected a number, a table of noise: number, or tuned, got {lam!r}")
    return number(f"{at}.lam", lam, 0)


def attack(at, options):
    """The options of `kspike.attack`, checked; presets and defaults are left to it."""
    checks = {
        "preset": lambda name, v: one_of(name, v, tuple(PRESETS)),
        "objective": lambda name, v: one_of(name, v, tuple(o for o in OBJECTIVES if o != "target")),
        "radius": lambda name, v: math.inf if v == "inf" else door.number(name, v, 0, closed=True),
        "select": lambda name, v: one_of(name, v, ("artifact", "error")),
        "ball": lambda name, v: one_of(name, v, ascent.BALLS),
        "cap": lambda name, v: door.number(name, v, 0),
        "optimiser": _optimiser,
        "steps": lambda name, v: door.whole(name, v, 0),
        "start": _start,
        "final": lambda name, v: door.whole(name, v, 1),
        "budget": lambda name, v: door.whole(name, v, 2),
    }
    table(at, options, tuple(checks))
    found = {name: checks[name](f"{at}.{name}", value) for name, value in options.items()}
    return found | ({"radius": "inf"} if found.get("radius") == math.inf else {})


def _optimiser(at, value):
    value = {"kind": value} if isinstance(value, str) else value
    kind = material.OPTIMISERS[
        one_of(f"{at}.kind", table(at, value, None, ("kind",))["kind"], tuple(material.OPTIMISERS))
    ]
    table(at, value, ("kind", *(field.name for field in dataclasses.fields(kind))))
    try:
        material.optimiser(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{at}: {error}") from None
    return value


def _start(at, value):
    names = [one_of(at, name, STARTS) for name in (value if isinstance(value, list) else [value])]
    return names if isinstance(value, list) else names[0]


def table(at, value, allowed, need=()):
    """The table itself, if it is one, has the keys that it needs and, where allowed is not None, no others."""
    if not isinstance(value, dict):
        raise ValueError(f"{at or 'specification'}: expected a table of keys, got {value!r}")
    dot = f"{at}." if at else ""
    for key in value if allowed is not None else ():
        if key not in allowed:
            close = difflib.get_close_matches(str(key), allowed, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(f"{dot}{key}: unknown key, expected one of {', '.join(allowed)}{hint}")
    for key in need:
        if key not in value:
            raise ValueError(f"{dot}{key}: expected, but it is missing")
    return value


def entries(key, source, least=1):
    """The entries of a list with their names: key[0], ..."""
    value = source[key]
    if not isinstance(value, list) or len(value) < least:
        raise ValueError(f"{key}: expected a list{' of at least one' * (least > 0)}, got {value!r}")
    return [(f"{key}[{i}]", entry) for i, entry in enumerate(value)]


def few(at, count, most, unit):
    """Refuse what is more than the most."""
    if count > most:
        raise ValueError(f"{at}: expected at most {most} {unit}, got {count}")


def one_of(at, value, allowed):
    """The value, if it is allowed."""
    if isinstance(value, dict | list) or value not in allowed:
        wanted = ", ".join("none" if a is None else a for a in allowed)
        raise ValueError(f"{at}: expected one of {wanted}, got {value!r}")
    return value


def number(at, value, *bounds):
    """A number between the bounds, as a float."""
    if isinstance(value, bool):
        raise ValueError(f"{at}: expected a number, got {value!r}")
    return door.number(at, value, *bounds)


def names(key, entries):
    """The names of the entries, which have to differ."""
    found = [str(entry["name"]) for entry in entries]
    for name in found:
        if found.count(name) > 1:
            raise ValueError(f"{key}: expected different names, got {name!r} twice: give each a name")
    return found


def _checkpoint(at, value, folder):
    """A file, or the name of a network that comes with kspike."""
    if pathlib.Path(value).suffix or (folder / value).is_file():
        return _existing(at, value, folder)
    nets = importlib.import_module("kspike.nets")
    one_of(at, value, tuple(nets.bundled()))
    return nets.checkpoint.WEIGHTS / f"{value}.safetensors"


def _existing(at, value, folder):
    path = pathlib.Path(os.path.abspath(folder / str(value)))
    if not path.is_file():
        raise ValueError(f"{at}: expected a file, got {path}")
    return path
