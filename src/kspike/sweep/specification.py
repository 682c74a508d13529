# SPDX-License-Identifier: MIT
"""What a sweep is: images x masks x noise x reconstructions, each attacked at a grid of locations, in a short file.

The specification is checked in full before anything runs. Its tasks are plain descriptions that JSON can hold, each
known by the hash of all that decides its result: what has been computed once is found again, in whatever order, by
whatever worker, and in a longer sweep.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
import tomllib
from dataclasses import dataclass, field
from typing import Any

from kspike import door, files
from kspike.objectives import centres, inside
from kspike.sweep import schema

__all__ = ["Specification", "Task", "name_of", "read"]

FORMAT = 1  # of a description; another format is another task
LONGEST, ENTRIES, DEEPEST = 2**18, 2**17, 32  # bytes of a file; values in it, and one in another
DOTTED = re.compile(rf"(?:\.[^.,=\]}}\n]*){{{DEEPEST}}}")  # a name of TOML in that many parts: its reader is quadratic
PLACES = 2**16  # locations of a grid
KEYS = (
    *("name", "images", "masks", "noise", "reconstructions", "attack", "grid", "at", "keep"),
    *("chunk", "seed", "dtype", "backend"),
)


@dataclass(frozen=True)
class Task:
    """One piece of a sweep: all locations of a cell (reconstruction, mask, noise, image), or a chunk of them."""

    id: str
    """The hash of the description."""
    cell: tuple[int, int, int, int]
    """Where the cell is on the axes of the sweep."""
    first: int
    """The index of its first location."""
    description: dict[str, Any] = field(repr=False)
    """All that decides the result."""


class Specification:
    """A checked specification, from a dictionary with the keys of the file; `read` takes the file.

    folder : where relative paths start

    Attributes: `name`; the axes `reconstructions`, `masks`, `noise`, `images`, and `locations`, [[row, col], ...];
    `labels`, the names along each axis; `grid`, (rows, cols) or None; `shape`, that of the images; `attack`, `keep`,
    `chunk`, `backend`, and `source`, the dictionary.
    """

    def __init__(self, source, folder="."):
        schema.table("", source, KEYS, need=("images", "masks", "noise", "reconstructions"))
        self.source, self.name, folder = source, str(source.get("name", "sweep")), pathlib.Path(folder)
        self.images = [d for at, entry in schema.entries("images", source) for d in schema.images(at, entry, folder)]
        shapes = {tuple(d["shape"]) for d in self.images}
        if len(shapes) > 1:
            raise ValueError(f"images: expected one shape in a sweep, got {sorted(shapes)}: size cuts files to it")
        self.shape = shapes.pop()
        self.masks = [schema.mask(at, entry, folder, self.shape) for at, entry in schema.entries("masks", source)]
        self.noise = [schema.number(at, value, 0, 1) for at, value in schema.entries("noise", source)]
        if len(set(self.noise)) < len(self.noise):
            raise ValueError(f"noise: expected different numbers, got {self.noise}")
        self.reconstructions = [
            schema.reconstruction(at, entry, folder, self.noise, self.images)
            for at, entry in schema.entries("reconstructions", source)
        ]
        self.attack = schema.attack("attack", source.get("attack", {}))
        self.grid, self.locations = self._locations(source)
        keep = schema.entries("keep", {"keep": ["perturbation"]} | source, least=0)
        self.keep = [schema.one_of(at, value, schema.KEEP) for at, value in keep]
        self.chunk = door.whole("chunk", source.get("chunk", len(self.locations)), 1)
        self.backend = schema.one_of("backend", source.get("backend"), schema.BACKENDS)
        self._settings = {
            "seed": door.whole("seed", source.get("seed", 0), 0),
            "dtype": schema.one_of("dtype", source.get("dtype", "complex64"), ("complex64", "complex128")),
            "backend": self.backend,
        }
        self.labels = {
            "reconstruction": schema.names("reconstructions", self.reconstructions),
            "mask": schema.names("masks", self.masks),
            "noise": self.noise,
            "image": schema.names("images", self.images),
        }

    def __repr__(self):
        axes = ", ".join(f"{len(values)} x {name}" for name, values in self.labels.items())
        return f"Specification({self.name!r}, {axes}, {len(self.locations)} x location)"

    @property
    def sizes(self):
        """How many (reconstructions, masks, noise levels, images) there are."""
        return tuple(len(values) for values in self.labels.values())

    def tasks(self):
        """Every task: image by image, so that a sweep which was stopped has the same images in every cell."""
        return [
            self._task((r, m, n, i), first)
            for i in range(len(self.images))
            for r in range(len(self.reconstructions))
            for m in range(len(self.masks))
            for n in range(len(self.noise))
            for first in range(0, len(self.locations), self.chunk)
        ]

    def _task(self, cell, first):
        r, m, n, i = cell
        noise, reconstruction = self.noise[n], self.reconstructions[r]
        table = reconstruction.get("lam")
        if isinstance(table, dict) and noise in table:
            reconstruction = reconstruction | {"lam": table[noise]}
        description = {
            "format": FORMAT,
            "image": self.images[i],
            "mask": self.masks[m],
            "noise": noise,
            "reconstruction": reconstruction,
            "attack": self.attack,
            "locations": self.locations[first : first + self.chunk],
            "keep": self.keep,
            **self._settings,
        }
        return Task(name_of(description), cell, first, description)

    def _locations(self, source):
        if "at" in source:
            if "grid" in source:
                raise ValueError("at, grid: expected one of the two, got both")
            return None, [list(inside(place, self.shape, name)) for name, place in schema.entries("at", source)]
        grid = door.shape2(source.get("grid", (8, 8)), "grid")
        schema.few("grid", grid[0] * grid[1], PLACES, "locations")
        return grid, centres(self.shape, grid).reshape(-1, 2).tolist()


def read(path):
    """The `Specification` of a .yaml, .yml, .toml or .json file; paths in it are relative to its folder."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        schema.few("file", path.stat().st_size, LONGEST, "bytes")
        return Specification(_bounded(_parsed(path)), path.parent)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {error}") from None


def _parsed(path):
    """The contents of the file."""
    kind = path.suffix.lower()
    if kind in (".yaml", ".yml"):
        try:
            import yaml
        except ModuleNotFoundError:
            raise ImportError(f"{path}: reading it needs PyYAML: pip install 'kspike[sweep]'") from None
        try:
            return yaml.safe_load(path.read_text())
        except (*files.broken(), yaml.YAMLError) as error:
            raise ValueError(f"expected YAML, got {files.one_line(error)}") from None
    if kind in (".toml", ".json"):
        try:
            text = path.read_text()
            if kind == ".toml" and DOTTED.search(text):
                raise ValueError(f"a name in more than {DEEPEST} parts")
            return (tomllib if kind == ".toml" else json).loads(text)
        except files.broken() as error:
            raise ValueError(f"expected {kind[1:].upper()}, got {files.one_line(error)}") from None
    raise ValueError(f"expected a file named .yaml .yml .toml .json, got {kind or 'no suffix'}")


def _bounded(source):
    """The contents, if they are few: the aliases of YAML make much of little, and endless things too."""
    left, seen = [(source, 0)], 0
    while left:
        value, depth = left.pop()
        schema.few("file", seen := seen + 1, ENTRIES, "values")
        schema.few("file", depth, DEEPEST, "values one in another")
        if isinstance(value, dict | list):
            left += [(inner, depth + 1) for inner in (value.values() if isinstance(value, dict) else value)]
    return source


def name_of(description):
    """The hash of a description, or of a part of one: of all of it but names and paths; files are known by contents."""
    text = json.dumps(_bare(description), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _bare(d):
    """A description without what decides nothing; the options of a reconstruction of one's own stay as they are."""
    found = {}
    for key, value in d.items():
        if isinstance(value, dict) and key != "options":
            found[key] = _bare(value)
        elif key == "images":
            found[key] = [_bare(v) for v in value]
        elif key not in ("name", "path", "checkpoint"):
            found[key] = value
    return found
