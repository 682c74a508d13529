# SPDX-License-Identifier: MIT
"""A folder of results: pieces of work that are done once, pictures, and the numbers behind them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib

import numpy as np

from kspike import files
from kspike.sweep.compute import provenance

__all__ = ["Results"]


class Results:
    """Keeps what was computed, so that a run which was stopped goes on where it was.

    Parameters
    ----------
    folder : where the files go; made if it is not there
    version : of the program; a piece that another version made is computed again
    progress : a function label -> context manager of a function (done, total), to show how far a piece is; None is
        silent
    """

    def __init__(self, folder, version="", progress=None):
        self.folder, self.version = pathlib.Path(folder), version
        self._parts = self.folder / "parts"
        self._parts.mkdir(parents=True, exist_ok=True)
        self._progress = progress
        self.written = []

    def keep(self, name, compute, **parameters):
        """The dict of arrays that compute(progress) returns, or the one kept from an earlier run with these parameters.

        The parameters, numbers and texts, are all that the result may depend on. A piece is written under another
        name, flushed to the disk and then renamed: it is there whole or not at all.
        """
        described = json.dumps({"name": name, "version": self.version, **parameters}, sort_keys=True)
        path = self._parts / f"{name}-{hashlib.sha256(described.encode()).hexdigest()[:16]}.npz"
        kept = _read(path, described)
        if kept is None:
            with self._progress(name) if self._progress else contextlib.nullcontext() as progress:
                kept = {key: np.asarray(value) for key, value in compute(progress).items()}
            files.whole(path, lambda file: np.savez_compressed(file, described=np.array(described), **kept))
        return kept

    def show(self, name, figure, numbers, arrays=None):
        """Write NAME.pdf and NAME.png, the numbers as NAME.json and arrays, if any, as NAME.npz.

        With the numbers goes what made them: commit, engine, machine.
        """
        for suffix, options in (("pdf", {"metadata": {"CreationDate": None}}), ("png", {})):
            self._add(f"{name}.{suffix}", lambda file, s=suffix, o=options: figure.savefig(file, format=s, **o))
        text = json.dumps({"version": self.version, "made_by": provenance(), **numbers}, indent=1, default=_plain)
        self._add(f"{name}.json", lambda file: file.write(f"{text}\n".encode()))
        if arrays:
            self._add(f"{name}.npz", lambda file: np.savez_compressed(file, **arrays))

    def _add(self, name, write):
        files.whole(self.folder / name, write)
        self.written.append(str(self.folder / name))


def _read(path, described):
    """The arrays of a piece, or None where there is none, or not a whole one."""
    try:
        with open(path, "rb") as file:
            kept = files.archive(path, path.stat().st_size, file)
    except files.broken():
        return None
    return kept if kept.pop("described", "") == described else None


def _plain(value):
    """What JSON holds of an array or a NumPy number."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
