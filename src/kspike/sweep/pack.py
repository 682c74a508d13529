# SPDX-License-Identifier: MIT
"""Parts into two files that others read: one Zarr v3 group with named dimensions, and one Parquet table.

One process writes; each replaces the one of before when it is complete. Nothing that differs from run to run, as
seconds do, goes into the table: two runs of a specification give the same bytes of numbers.
"""

from __future__ import annotations

import json
import os
import shutil

import numpy as np

from kspike.sweep.results import collect

__all__ = ["pack"]

CELL = ("reconstruction", "mask", "noise", "image")
KEPT = {  # dimensions of what a task may keep, after those of its cell
    "perturbation": ("sample",),
    "perturbations": ("location", "sample"),
    **{name: ("row", "col") for name in ("artifact", "image_perturbation", "reconstruction", "clean")},
}


def pack(specification, store):
    """Write FOLDER/sweep.zarr and FOLDER/table.parquet from the parts that are there; the two paths and `Results`.

    `xarray.open_zarr(path, consolidated=False)` has the variables amplification, artifact_max and pairs
    (reconstruction, mask, noise, image, location); best, lam, eta, psnr, seconds and cpu without;
    subsampling_factor (mask); and what the specification keeps, a compressed chunk a cell, samples beyond those of a
    mask being 0. The table has a row for each location that was attacked.
    """
    zarr, parquet = _need("zarr"), _need("pyarrow.parquet")
    results = collect(specification, store)
    paths = store.folder / "sweep.zarr", store.folder / "table.parquet"
    fresh = [path.with_name(f"{path.name}.{os.getpid()}.new") for path in paths]
    try:
        _write_group(zarr, fresh[0], results, store)
        parquet.write_table(_need("pyarrow").table(_columns(results)), fresh[1])
        shutil.rmtree(paths[0], ignore_errors=True)
        for new, path in zip(fresh, paths, strict=True):
            os.replace(new, path)
    finally:
        shutil.rmtree(fresh[0], ignore_errors=True)
        fresh[1].unlink(missing_ok=True)
    return *paths, results


def _need(module):
    """Import a package of the extra, or say what to type."""
    import importlib

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise ImportError(f"packing needs {module}: pip install 'kspike[sweep]'") from None


def _write_group(zarr, path, results, store):
    specification = results.specification
    group = zarr.create_group(path, zarr_format=3, attributes=_attributes(results))

    def put(name, values, dimensions, **attributes):
        array = group.create_array(
            name, data=np.ascontiguousarray(values), dimension_names=dimensions, attributes=attributes
        )
        return array

    for name in CELL:
        labels = specification.labels[name]
        put(name, np.array(labels) if name == "noise" else np.array(labels, np.dtypes.StringDType()), (name,))
    places = np.array(specification.locations)
    put("location_row", places[:, 0], ("location",), units="pixel")
    put("location_col", places[:, 1], ("location",), units="pixel")
    put("subsampling_factor", results.factors, ("mask",), long_name="n^2 / m")
    for name in ("amplification", "artifact_max", "pairs"):
        put(name, getattr(results, name), (*CELL, "location"))
    put("best", results.best, CELL, long_name="index of the selected location, -1 where the cell is not complete")
    for name, values in results.tables.items():
        put(name, values, CELL)
    if specification.keep:
        _write_kept(group, results, store)


def _write_kept(group, results, store):
    """The arrays that were kept, read and written cell by cell: a chunk each."""
    specification = results.specification
    samples = max(round(np.prod(specification.shape) / factor) for factor in results.factors)
    lengths = {
        "sample": samples,
        "location": len(specification.locations),
        **dict(zip(("row", "col"), specification.shape, strict=True)),
    }
    made = {}
    for task in specification.tasks():
        part = store.read(task.id)
        if part is None:
            continue
        for name in specification.keep:
            values, inner = part[0][name], KEPT[name]
            if name not in made:
                shape = tuple(lengths[d] for d in inner)
                chunk = (min(specification.chunk, shape[0]), *shape[1:]) if name == "perturbations" else shape
                made[name] = group.create_array(
                    name,
                    shape=(*specification.sizes, *shape),
                    chunks=(1, 1, 1, 1, *chunk),
                    dtype=values.dtype,
                    fill_value=0,
                    dimension_names=(*CELL, *inner),
                )
            padded = np.zeros((*values.shape[:-1], lengths[inner[-1]]), values.dtype)
            padded[..., : values.shape[-1]] = values
            if name == "perturbations":
                made[name][(*task.cell, slice(task.first, task.first + len(values)))] = padded
            elif results.ids[task.cell] == task.id:
                made[name][task.cell] = padded


def _attributes(results):
    """What is said of the whole: the specification, the software, what failed."""
    return {
        "specification": json.loads(json.dumps(results.specification.source)),
        "software": results.provenance,
        "failures": {task: record["reason"] for task, record in results.failures.items()},
        "missing": results.missing,
    }


def _columns(results):
    """The columns of the table, a row for each location that was attacked, in the order of the axes."""
    specification = results.specification
    there = np.isfinite(results.artifact_max)
    indices = np.nonzero(there)
    cell, location = indices[:4], indices[4]
    columns = {name: np.array(specification.labels[name])[index] for name, index in zip(CELL, cell, strict=True)}
    places = np.array(specification.locations)[location]
    columns |= {"location": location, "row": places[:, 0], "col": places[:, 1]}
    columns |= {name: getattr(results, name)[there] for name in ("amplification", "artifact_max", "units", "pairs")}
    columns["selected"] = results.best[cell] == location
    columns |= {name: results.tables[name][cell] for name in ("lam", "eta", "psnr")}
    columns["subsampling_factor"] = results.factors[cell[1]]
    return columns
