# SPDX-License-Identifier: MIT
"""Sweeps: a specification is checked, its tasks are known by what decides them, what was found is found again."""

import errno
import hashlib
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

import kspike
from kspike import sweep
from kspike.cli import main
from kspike.sweep import compute
from kspike.sweep.specification import Specification, name_of

SMALL = {
    "images": [{"kind": "ellipses", "size": 24, "count": 2}],
    "masks": [{"kind": "radial", "lines": 6}, {"kind": "radial", "lines": 9}],
    "noise": [0.01, 0.05],
    "reconstructions": [{"kind": "tv", "lam": {0.01: 1e-3, 0.05: 5e-3}}],
    "attack": {"steps": 3, "final": 10, "radius": 2},
    "grid": [1, 2],
}


def changed(**keys):
    return {key: value for key, value in (SMALL | keys).items() if value is not None}


@pytest.fixture
def store(tmp_path):
    return sweep.Store(tmp_path / "sweep")


# The specification


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"images": None}, "images: expected, but it is missing"),
        ({"imags": []}, "imags: unknown key, expected one of name, images, masks.*did you mean images"),
        ({"images": []}, "images: expected a list of at least one"),
        ({"images": [{"kind": "elipses"}]}, r"images\[0\].kind: expected one of ellipses, shepp_logan, file, folder"),
        ({"images": [{"kind": "ellipses", "sed": 1}]}, r"images\[0\].sed: unknown key.*did you mean seed"),
        ({"images": [{"kind": "ellipses", "count": 0}]}, r"images\[0\].count: expected an integer of at least 1"),
        ({"images": [{"kind": "file", "path": "no.npy"}]}, r"images\[0\].path: expected a file, got .*no.npy"),
        ({"images": [{"kind": "folder", "path": "no"}]}, r"images\[0\].path: expected a folder"),
        ({"images": [{"kind": "ellipses", "size": 24}, {"kind": "shepp_logan", "size": 32}]}, "expected one shape"),
        (
            {"images": [{"kind": "ellipses", "size": 24}] * 2},
            "images: expected different names",
        ),
        ({"masks": [{"kind": "radial"}]}, r"masks\[0\].lines: expected, but it is missing"),
        ({"masks": [{"kind": "radial", "lines": 0}]}, r"masks\[0\]: lines: expected an integer of at least 1, got 0"),
        ({"noise": [4]}, r"noise\[0\]: expected a number in \(0, 1\), got 4"),
        ({"noise": [0.1, 0.1]}, "noise: expected different numbers"),
        ({"noise": 0.1}, "noise: expected a list"),
        ({"reconstructions": [{"kind": "tv"}]}, r"reconstructions\[0\].lam: expected, but it is missing"),
        (
            {"reconstructions": [{"kind": "tv", "lam": "tunes"}]},
            r"\].lam: expected a number, a table",
        ),
        ({"reconstructions": [{"kind": "tv", "lam": {0.01: 1}}]}, r"\].lam: expected a number for every noise.*0.05"),
        ({"reconstructions": [{"kind": "tv", "lam": 1, "tune": {"images": 1}}]}, r"\].tune: expected only beside lam"),
        ({"reconstructions": [{"kind": "network"}]}, r"\].checkpoint: expected, but it is missing"),
        ({"reconstructions": [{"kind": "python", "make": "m"}]}, r"\].make: expected module:function, got 'm'"),
        ({"attack": {"step": 3}}, "attack.step: unknown key, expected one of preset, .*did you mean steps"),
        ({"attack": {"steps": -1}}, "attack.steps: expected an integer of at least 0, got -1"),
        ({"attack": {"preset": "papers"}}, "attack.preset: expected one of default, paper, strong, got 'papers'"),
        ({"attack": {"start": ["up"]}}, "attack.start: expected one of minus, plus, random, outside, got 'up'"),
        ({"attack": {"optimiser": {"kind": "adam", "lr": -1}}}, "attack.optimiser: lr: expected a number"),
        ({"attack": {"optimiser": {"kind": "sgd"}}}, "attack.optimiser.kind: expected one of power, adam, pgd"),
        ({"grid": [0, 1]}, "grid: expected"),
        ({"at": [[30, 0]]}, "at, grid: expected one of the two, got both"),
        ({"at": [[30, 0]], "grid": None}, r"at\[0\]: expected \(row, col\) inside"),
        ({"keep": ["artifacts"]}, r"keep\[0\]: expected one of perturbation, perturbations, artifact"),
        ({"chunk": 0}, "chunk: expected an integer of at least 1"),
        ({"dtype": "float32"}, "dtype: expected one of complex64, complex128"),
        ({"backend": "cuda"}, "backend: expected one of none, cpp, numba, cupy, reference"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(keys, message):
    with pytest.raises(ValueError, match=message):
        Specification(changed(**keys))


def test_the_same_file_in_yaml_toml_and_json(tmp_path):
    yaml = pytest.importorskip("yaml")
    source = changed(reconstructions=[{"kind": "tv", "lam": 1e-3}])
    (tmp_path / "a.json").write_text(json.dumps(source))
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(source))
    (tmp_path / "a.toml").write_text(
        'noise = [0.01, 0.05]\ngrid = [1, 2]\nimages = [{kind = "ellipses", size = 24, count = 2}]\n'
        'masks = [{kind = "radial", lines = 6}, {kind = "radial", lines = 9}]\n'
        'reconstructions = [{kind = "tv", lam = 1e-3}]\nattack = {steps = 3, final = 10, radius = 2}\n'
    )
    ids = [[task.id for task in sweep.read(tmp_path / f"a.{kind}").tasks()] for kind in ("json", "yaml", "toml")]
    assert ids[0] == ids[1] == ids[2] and len(set(ids[0])) == 8


@pytest.mark.parametrize("name, text", [("a.yaml", "a: ["), ("a.toml", "a = "), ("a.json", "{"), ("a.txt", "")])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name):
        sweep.read(tmp_path / name)


def test_an_id_depends_on_all_that_decides_and_on_nothing_else(tmp_path):
    def ids(**keys):
        return {task.id for task in Specification(changed(**keys), tmp_path).tasks()}

    first = ids()
    decides = [
        {"attack": {"steps": 4}},
        {"keep": []},
        {"seed": 1},
        {"dtype": "complex128"},
        {"backend": "reference"},
        {"grid": [2, 2]},
        {"chunk": 1},
        {"reconstructions": [{"kind": "tv", "lam": 2e-3}]},
        {"reconstructions": [{"kind": "tv", "lam": {0.01: 1e-3, 0.05: 5e-3}, "norm": "modulus"}]},
    ]
    for keys in decides:
        assert not ids(**keys) & first, keys
    assert ids(name="other", reconstructions=[{**SMALL["reconstructions"][0], "name": "other"}]) == first
    assert ids(noise=[0.01, 0.05, 0.02], reconstructions=[{"kind": "tv", "lam": 1e-3}]) > ids(
        noise=[0.01], reconstructions=[{"kind": "tv", "lam": 1e-3}]
    )
    assert first < ids(images=[{"kind": "ellipses", "size": 24, "count": 3}]), "a longer sweep holds the shorter one"
    image = np.zeros((24, 24), np.float32)
    image[3:9, 4:20] = 1
    named = []
    for name in ("one.npy", "two.npy"):
        np.save(tmp_path / name, image)
        named.append(ids(images=[{"kind": "file", "path": name}]))
    assert named[0] == named[1], "files are known by what they hold"
    image[3, 3] = 1
    np.save(tmp_path / "two.npy", image)
    assert not ids(images=[{"kind": "file", "path": "two.npy"}]) & named[0]


def test_options_of_a_reconstruction_of_ones_own_decide_whatever_their_name():
    made = [{"kind": "python", "make": "m:f", "options": {"path": name}} for name in ("a", "b")]
    assert name_of({"reconstruction": made[0]}) != name_of({"reconstruction": made[1]})


def test_images_and_masks_from_files(tmp_path):
    images = np.stack([kspike.ellipses((24, 24), seed=seed) for seed in range(3)])
    np.savez(tmp_path / "data.npz", images=images, mask=kspike.radial_mask((24, 24), lines=7))
    keys = {
        "images": [{"kind": "file", "path": "data.npz", "key": "images", "slice": [0, 2]}],
        "masks": [{"kind": "file", "path": "data.npz", "key": "mask"}],
        "reconstructions": [{"kind": "tv", "lam": 1e-3}],
    }
    specification = Specification(changed(**keys), tmp_path)
    assert specification.labels["image"] == ["data 0", "data 2"] and specification.labels["mask"] == ["data mask"]
    task = specification.tasks()[0]
    arrays, _ = compute.compute(task.id, task.description, sweep.Store(tmp_path))
    assert arrays["perturbation"].shape == (kspike.radial_mask((24, 24), lines=7).sum(),)
    np.savez(tmp_path / "data.npz", images=images[::-1], mask=kspike.radial_mask((24, 24), lines=7))
    with pytest.raises(ValueError, match="expected the contents of when the sweep was read"):
        compute.compute(task.id, task.description, sweep.Store(tmp_path))


def test_a_folder_of_volumes(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "brains").mkdir()
    for k in range(3):
        with h5py.File(tmp_path / "brains" / f"file{k}.h5", "w") as file:
            file["reconstruction_rss"] = np.random.default_rng(k).random((4, 32, 30), np.float32)
    entry = {"kind": "folder", "path": "brains", "slice": [1, 2], "size": 24, "count": 2}
    specification = Specification(changed(images=[entry]), tmp_path)
    assert specification.labels["image"] == ["file0 1", "file0 2", "file1 1", "file1 2"]
    assert specification.shape == (24, 24)


# Parts


def test_a_part_comes_back_and_a_damaged_one_does_not(store):
    store.open()
    arrays = {"a": np.arange(6.0).reshape(2, 3), "e": np.ones(4, np.complex64)}
    store.write("ab12", arrays, {"seconds": 1.5})
    found, about = store.read("ab12")
    assert about == {"seconds": 1.5} and set(found) == {"a", "e"}
    for name in arrays:
        np.testing.assert_array_equal(found[name], arrays[name], strict=True)
    with np.load(store.path("ab12"), allow_pickle=False) as file:  # anybody can read it
        assert set(file.files) == {"a", "e", "about"}
    data = store.path("ab12").read_bytes()
    for place in np.linspace(0, len(data) - 1, 40).astype(int):
        torn, flipped = data[:place], bytearray(data)
        flipped[place] ^= 1
        for wrong in (torn, bytes(flipped)):
            store.path("ab12").write_bytes(wrong)
            assert store.read("ab12") is None and store.done(["ab12"]) == (set(), {"ab12"})
    assert store.read("cd34") is None and store.done(["cd34"]) == (set(), set())


def test_a_pickle_is_neither_written_nor_opened(store):
    store.open()
    objects = np.array([print], object)
    with pytest.raises(TypeError, match="a: expected numbers, got an array of Python objects"):
        store.write("ab12", {"a": objects}, {})
    assert store.read("ab12") is None
    store.write("ab12", {"a": np.ones(2)}, {})
    np.savez(store.path("ab12"), a=objects, about=np.ones(2, np.uint8))
    data = store.path("ab12").read_bytes()
    store.path("ab12").write_bytes(data + hashlib.sha256(data).hexdigest().encode())
    assert store.done(["ab12"])[0] == {"ab12"}, "the hash is right"
    assert store.read("ab12") is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_process_that_nobody_waited_for_is_dead(store):
    store.open()
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
    left = store.folder / "parts" / f"x.npz.{sweep.store.HOST}.{process.pid}.tmp"
    left.touch()
    store.tidy()
    assert not left.exists()
    process.wait()


def test_left_overs_of_dead_processes_are_removed_and_those_of_live_ones_are_not(store, tmp_path):
    store.open()
    dead = subprocess.Popen(["true"])
    dead.wait()
    host = sweep.store.HOST
    mine, theirs = (store.folder / "parts" / f"x.npz.{host}.{pid}.tmp" for pid in (1, dead.pid))
    other = store.folder / "parts" / f"x.npz.elsewhere.{dead.pid}.tmp"
    for path in (mine, theirs, other):
        path.write_bytes(b"half")
    store.open()
    assert mine.exists() and other.exists() and not theirs.exists()


# Runs


def tables(results):
    return {name: getattr(results, name) for name in ("amplification", "artifact_max", "pairs", "best", "units")}


def test_order_workers_shards_and_chunks_do_not_matter(tmp_path):
    """Two runs of one specification give the same numbers, to the last bit, and so do its shards in another order."""
    specification = Specification(SMALL)
    one, two = sweep.Store(tmp_path / "one"), sweep.Store(tmp_path / "two")
    summary = sweep.run(specification, one, workers=1)
    assert (summary.done, summary.computed, summary.deaths) == (8, 8, 0)
    for shard in (2, 0, 1):
        sweep.run(specification, two, shard=(shard, 3), workers=2)
    first, second = (sweep.collect(specification, store) for store in (one, two))
    for name, values in tables(first).items():
        np.testing.assert_array_equal(values, tables(second)[name])
    assert first.missing == 0 and (first.best >= 0).all()
    chunked = sweep.Store(tmp_path / "chunked")
    specification = Specification(changed(chunk=1))
    assert sweep.run(specification, chunked).computed == 16
    third = sweep.collect(specification, chunked)
    for name, values in tables(first).items():  # one location a batch, whatever the chunk
        np.testing.assert_array_equal(values, tables(third)[name])


def test_a_sweep_finds_what_attack_finds(store):
    specification = Specification(SMALL)
    sweep.run(specification, store, workers=1)
    results = sweep.collect(specification, store)
    tv = kspike.TVSolver(kspike.radial_mask((24, 24), 9), 5e-3)
    y = tv.A(kspike.ellipses((24, 24), seed=1))
    found = kspike.attack(tv, y, noise=0.05, grid=(1, 2), steps=3, final=10, radius=2)
    cell = (0, 1, 1, 1)
    np.testing.assert_array_equal(results.artifact_max[cell], found.artifact_maxima[0])
    assert results.selected("units")[cell] == pytest.approx(found.units, rel=1e-6)
    assert results.tables["eta"][cell] == found.eta and results.tables["lam"][cell] == 5e-3
    arrays, about = store.read(results.ids[cell])
    np.testing.assert_array_equal(arrays["perturbation"], found.perturbation)
    assert about["engine"].startswith(tv.backend) and about["description"]["noise"] == 0.05


def test_what_is_done_is_not_done_again_and_damage_is(store):
    specification = Specification(SMALL)
    assert sweep.run(specification, store, workers=2).computed == 8
    before = {path: path.stat().st_mtime_ns for path in store.folder.glob("parts/*/*.npz")}
    task = specification.tasks()[3].id
    store.path(task).write_bytes(store.path(task).read_bytes()[:-100])
    summary = sweep.run(specification, store, workers=2)
    assert (summary.computed, summary.damaged, summary.done) == (1, 1, 8)
    assert {p for p, t in before.items() if p.stat().st_mtime_ns != t} == {store.path(task)}


def test_two_drivers_share_the_work(store):
    """Both begin with everything to do; a task that the other has done meanwhile is not done again."""
    specification, seen = Specification(SMALL), []

    def meanwhile(done, total):
        if not seen:  # nothing is computed yet
            other = sweep.run(specification, store, workers=1, shard=(1, 2))
            seen.append(other.computed)

    summary = sweep.run(specification, store, workers=1, progress=meanwhile)
    assert seen == [4] and summary.computed == 4 and summary.done == 8


def test_lam_is_tuned_once_for_each_mask_and_noise(store):
    keys = {"reconstructions": [{"kind": "tv", "lam": "tuned", "tune": {"images": 2}}], "attack": {"steps": 1}}
    specification = Specification(changed(**keys))
    sweep.run(specification, store, workers=2)
    kept = [json.loads(path.read_text()) for path in store.folder.glob("tuned/*.json")]
    assert len(kept) == 4 and {(k["mask"], k["noise"]) for k in kept} == {
        (f"radial {lines}", noise) for lines in (6, 9) for noise in (0.01, 0.05)
    }
    lams = sweep.collect(specification, store).tables["lam"]
    for record in kept:
        m, n = specification.labels["mask"].index(record["mask"]), specification.noise.index(record["noise"])
        assert (lams[0, m, n] == record["lam"]).all()
        assert record["lam"] == pytest.approx(record["lams"][int(np.argmin(record["curve"]))], rel=5e-3)


def test_a_network_by_its_checkpoint(store, tmp_path):
    pytest.importorskip("torch")
    nets = pytest.importorskip("kspike.nets")
    mask = kspike.radial_mask((24, 24), 9)
    levels = {"down_blocks": (1,), "up_blocks": (1,), "pool_factors": (2,), "bottleneck_layers": 1}
    network = {"kind": "tira", "options": {**levels, "growth_rate": 2, "out_chans_first_conv": 4}}
    nets.save(nets.build(mask, **network), tmp_path / "net.safetensors", network, {})
    keys = {
        "reconstructions": [{"kind": "network", "checkpoint": "net.safetensors"}],
        "noise": [0.05],
        "images": [SMALL["images"][0] | {"count": 1}],
    }
    specification = Specification(changed(**keys), tmp_path)
    assert specification.labels["reconstruction"] == ["net"]
    keys["reconstructions"] = [{"kind": "network", "checkpoint": "no-such"}]
    with pytest.raises(ValueError, match=r"reconstructions\[0\].checkpoint: expected one of .*got 'no-such'"):
        Specification(changed(**keys), tmp_path)
    summary = sweep.run(specification, store, workers=1)
    assert summary.done == 1
    (reason,) = summary.failures.values()
    assert "expected a network for this mask" in reason
    results = sweep.collect(specification, store)
    rec = kspike.torch.Reconstruction(nets.load(tmp_path / "net.safetensors"))
    y = rec.A(kspike.ellipses((24, 24), seed=0))
    found = kspike.attack(rec, y, noise=0.05, grid=(1, 2), steps=3, final=10, radius=2)
    np.testing.assert_allclose(results.artifact_max[0, 1, 0, 0], found.artifact_maxima[0], rtol=1e-3)


# What is made of the parts


def test_xarray_and_parquet_read_the_pack(store):
    xarray, parquet = pytest.importorskip("xarray"), pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("zarr")
    keep = ["perturbation", "perturbations", "artifact"]
    specification = Specification(changed(keep=keep, chunk=1))
    sweep.run(specification, store)
    victim = specification.tasks()[-1].id
    store.path(victim).unlink()
    for _ in range(2):  # again over the first
        group, table, results = sweep.pack(specification, store)
    data = xarray.open_zarr(group, consolidated=False).load()
    cell = {"reconstruction": "tv", "mask": "radial 9", "noise": 0.01, "image": "ellipses 1"}
    assert data.amplification.dims == ("reconstruction", "mask", "noise", "image", "location")
    np.testing.assert_array_equal(data.amplification, results.amplification)
    here = data.sel(cell)
    best = int(here.best)
    artifact, e = here.artifact.values, here.perturbations.values[best]
    assert np.abs(artifact).max() == pytest.approx(float(here.artifact_max[best]), rel=1e-6)
    np.testing.assert_array_equal(here.perturbation.values, e)
    A = kspike.MaskedFourier(kspike.radial_mask((24, 24), 9))
    assert np.linalg.norm(e) == pytest.approx(float(here.eta), rel=1e-5) and len(e) == A.samples
    alpha = float(here.amplification[best])
    assert np.abs(artifact).max() / np.abs(A.adjoint(e)).max() == pytest.approx(alpha, rel=1e-5)
    samples = kspike.radial_mask((24, 24), 6).sum()
    assert not data.perturbation.sel(mask="radial 6").values[..., samples:].any()
    incomplete = data.sel({**cell, "noise": 0.05})
    assert int(incomplete.best) == -1 and np.isnan(incomplete.artifact_max.values[1])
    rows = parquet.read_table(table)
    assert rows.num_rows == 15 and rows.column_names[:5] == ["reconstruction", "mask", "noise", "image", "location"]
    assert sum(rows["selected"].to_pylist()) == 7
    assert data.attrs["missing"] == 1


def test_two_runs_give_the_same_table(tmp_path):
    pytest.importorskip("pyarrow"), pytest.importorskip("zarr")
    specification, texts = Specification(SMALL), []
    for name, workers in (("a", 1), ("b", 2)):
        store = sweep.Store(tmp_path / name)
        sweep.run(specification, store, workers=workers)
        texts.append(sweep.pack(specification, store)[1].read_bytes())
    assert texts[0] == texts[1]


def test_the_plan_counts_what_is_run(store):
    specification = Specification(SMALL)
    plan = sweep.plan(specification, store)
    assert (plan.tasks, plan.done, plan.attacks, plan.left) == (8, 0, 16, 16)
    assert not store.folder.exists()
    sweep.run(specification, store)
    results = sweep.collect(specification, store)
    assert plan.pairs == results.pairs.sum()
    there = sum(path.stat().st_size for path in store.folder.glob("parts/*/*.npz"))
    assert plan.part_bytes == pytest.approx(there, rel=0.2)
    assert plan.kept_bytes == sum(8 * kspike.radial_mask((24, 24), n).sum() for n in (6, 9)) * 4
    after = sweep.plan(specification, store)
    assert (after.done, after.left, after.pairs, after.seconds) == (8, 0, 0, 0)


@pytest.mark.parametrize(
    "options, pairs",
    [
        ({"preset": "paper", "steps": 2, "final": 60}, 2 * 100 + 60),
        ({"start": ["minus", "plus"], "steps": 2, "final": 9}, 2 * (2 * 7 + 9)),
        ({"budget": 40}, 40),
        ({"cap": 0.5, "radius": 0, "steps": 2, "final": 5}, 2 * (7 + 4) + 5),
    ],
)
def test_the_plan_knows_the_attacks(store, options, pairs):
    keys = {
        "attack": options,
        "noise": [0.05],
        "masks": SMALL["masks"][:1],
        "images": [SMALL["images"][0] | {"count": 1}],
    }
    specification = Specification(changed(**keys))
    assert sweep.plan(specification, store).pairs == 2 * pairs
    sweep.run(specification, store, workers=1)
    assert sweep.collect(specification, store).pairs.max() <= pairs


# The command line


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("s.json").write_text(json.dumps(changed(reconstructions=[{"kind": "tv", "lam": 1e-3}])))
    return "s.json"


def test_plan_run_status_pack_report(spec, capsys):
    for part, words in (
        ("plan", ["8, 0 done", "16, 16 left", "one core"]),
        ("run", ["8 of 8 tasks, 8 of them now", "s.sweep"]),
        ("run", ["8 of 8 tasks, 0 of them now"]),
        ("status", ["8 of 8 tasks, 100 %"]),
        ("pack", ["sweep.zarr", "table.parquet"]),
        ("report", ["report.html"]),
    ):
        assert main(["sweep", part, spec]) == 0
        out = capsys.readouterr().out
        for word in words:
            assert word in out, (part, word)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["run", "no.yaml"], "no.yaml: no such file"),
        (["run", "s.json", "--shard", "2/2"], "--shard: expected I/N with I from 0 to N - 1"),
        (["run", "s.json", "--workers", "0"], "--workers: expected at least 1"),
        (["report", "s.json"], "s.sweep: no such folder"),
        (["run", "s.json", "--dask", "a", "--submitit", "b"], "not allowed with"),
    ],
)
def test_errors_are_one_line(spec, capsys, arguments, words):
    assert main(["sweep", *arguments]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


def test_progress_is_in_attacks(spec, capsys):
    pytest.importorskip("tqdm")
    assert main(["sweep", "run", spec, "--workers", "1"]) == 0
    assert "/16 " in capsys.readouterr().err


def test_table1_small(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--images", "2", "--compatible", "1", "--size", "32", "--grid", "2x2", "--spike-grid", "1x1", "--quiet"]
    assert main(["paper", "table1", "--half", "tv", *small, "--only", "default"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 18 and lines[2].startswith("| 25, 0.5 % | ") and "8.12 ± 2.83" in lines[2]
    assert all("nan" not in line for line in lines)


# Looked at


def test_the_report_stands_alone(store):
    specification = Specification(changed(name="A <sweep> & more"))
    sweep.run(specification, store)
    text = sweep.report(specification, store).read_text()
    assert "A &lt;sweep&gt; &amp; more" in text and "<script" not in text
    assert "http" not in text.replace("https://", "http://") and "url(" not in text
    assert (
        text.count("data:image/png;base64,") == 4 * 4
    )  # one artifact for each mask and image; two panels and two zooms


def test_a_report_without_room_leaves_the_one_before(store, monkeypatch):
    specification = Specification(changed())
    sweep.run(specification, store)
    page = sweep.report(specification, store)
    before, names = page.read_bytes(), sorted(store.folder.rglob("*"))

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        sweep.report(specification, store)
    assert page.read_bytes() == before and sorted(store.folder.rglob("*")) == names


@pytest.mark.slow
def test_the_report_looks_like_something_in_a_browser(store, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium to look at the page with: apt-get install chromium")
    pillow = pytest.importorskip("PIL.Image")
    specification = Specification(changed(grid=[4, 4], images=[{"kind": "ellipses", "size": 48, "count": 3}]))
    sweep.run(specification, store)
    page, shot = sweep.report(specification, store), tmp_path / "shot.png"
    seen = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1240,3600"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [browser, *seen, profile, f"--screenshot={shot}", page.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with pillow.open(shot) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape[1] == 1240
    inked = (np.abs(pixels - pixels[0, 0]).sum(-1) > 60).mean(1)  # share of each line that is not background
    end = np.flatnonzero(inked)[-1]
    assert end > 1500 and (inked[:end] > 0).mean() > 0.5, "the page is filled from top to bottom"
    blue = (pixels[..., 2] - pixels[..., 0] > 80).sum()  # the first curve
    black = (pixels.max(-1) < 8).sum()  # the images' background
    assert blue > 300 and black > 0.02 * pixels[..., 0].size


def test_moments_are_those_of_what_is_there():
    from kspike.sweep.report import _moments

    values = np.array([[1.0, 2.0, math.nan], [math.nan, math.nan, math.nan], [3.0, math.nan, math.nan]])
    mean, spread, count = _moments(values)
    np.testing.assert_allclose(mean, [1.5, math.nan, 3.0])
    np.testing.assert_allclose(spread, [math.sqrt(0.5), math.nan, 0.0])
    assert count.tolist() == [2, 0, 1]
