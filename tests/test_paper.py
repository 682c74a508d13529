# SPDX-License-Identifier: MIT
"""`kspike paper`: what is kept, what is written, and that the numbers are those of the pictures."""

import json

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import kspike
from kspike.cli import main
from kspike.paper import studies
from kspike.paper.figures import FIGURES, Setting
from kspike.paper.results import Results
from kspike.paper.section5 import SECTION5
from kspike.paper.studies import STUDIES

SMALL = ["--size", "32", "--lines", "10", "--grid", "2x2", "--threads", "1", "--quiet"]


def test_a_piece_is_computed_once_and_again_when_its_parameters_or_the_version_change(tmp_path):
    calls = []

    def compute(progress):
        calls.append(progress)
        return {"a": np.arange(3), "b": 1.5}

    for version, seed in (("1", 0), ("1", 0), ("1", 1), ("2", 0), ("1", 0)):
        kept = Results(tmp_path, version).keep("piece", compute, seed=seed)
        assert kept["a"].tolist() == [0, 1, 2] and kept["b"] == 1.5 and set(kept) == {"a", "b"}
    assert len(calls) == 3


@pytest.mark.parametrize("damage", [lambda b: b[:-20], lambda b: b"", lambda b: b"x" * len(b), lambda b: b[:100]])
def test_a_torn_piece_is_computed_again(tmp_path, damage):
    results = Results(tmp_path)
    results.keep("piece", lambda progress: {"a": np.arange(1000)})
    (path,) = (tmp_path / "parts").iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert results.keep("piece", lambda progress: {"a": np.arange(5)})["a"].size == 5


def test_a_piece_that_fails_leaves_nothing_behind(tmp_path):
    with pytest.raises(ZeroDivisionError):
        Results(tmp_path).keep("piece", lambda progress: {"a": 1 / 0})
    assert not list((tmp_path / "parts").iterdir())


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_figures_are_written_with_the_numbers_behind_them(tmp_path, capsys, number):
    command = ["paper", "figure", str(number), *SMALL, "--out", str(tmp_path)]
    assert main(command) == 0
    name = f"figure{number}"
    for suffix, start in (("png", b"\x89PNG"), ("pdf", b"%PDF"), ("json", b"{"), ("npz", b"PK")):
        assert (tmp_path / f"{name}.{suffix}").read_bytes().startswith(start)
        assert f"{name}.{suffix}" in capsys.readouterr().out or suffix != "png"
    numbers = json.loads((tmp_path / f"{name}.json").read_text())
    with np.load(tmp_path / f"{name}.npz") as file:
        arrays = dict(file)
    x = arrays["image"]
    assert np.array_equal(x, kspike.ellipses((32, 32), seed=0))
    if number == 1:
        for what in ("noise", "feature"):
            assert np.linalg.norm(arrays[what]) == pytest.approx(0.1 * np.linalg.norm(x), rel=1e-6)  # float32 images
        assert numbers["feature"]["local_damage"] > 2 * numbers["noise"]["local_damage"]
    if number == 2:
        A = kspike.MaskedFourier(arrays["mask"])
        assert numbers["samples"] == arrays["mask"].sum() == A.samples
        assert np.array_equal(arrays["pseudo_inverse"], A.adjoint(A(x)))
    if number == 3:
        artifact = np.abs(arrays["reconstruction"] - arrays["clean"]).max()
        assert numbers["artifact"] == pytest.approx(artifact)
        assert numbers["alpha"] == pytest.approx(artifact / np.abs(arrays["image_perturbation"]).max())
        assert np.linalg.norm(arrays["perturbation"]) == pytest.approx(0.04 * np.linalg.norm(x_samples(x)), rel=1e-4)
    if number == 4:
        assert numbers["noise"] == [0.005, 0.01, 0.04, 0.08]
        assert np.all(np.diff(numbers["artifact"]) > 0)  # eight times the budget and more


class Filled:
    """A*y times a number: the least that can be attacked."""

    def __init__(self, mask, gain):
        self.A, self.shape, self._gain = kspike.MaskedFourier(mask), mask.shape, np.float32(gain)

    def __call__(self, y):
        return self._gain * self.A.adjoint(y)

    def vjp(self, y):
        return self(y), lambda g: self._gain * self.A(g)


@pytest.mark.parametrize("number", [5, 6, 7])
def test_figures_of_networks_say_what_each_reconstruction_makes_of_the_perturbation(tmp_path, monkeypatch, number):
    mask = kspike.radial_mask((32, 32), 10)
    recs = {"recTV": kspike.TVSolver(mask, 5.6e-3), "Tira": Filled(mask, 1), "TiraFL": Filled(mask, 0.5)}
    monkeypatch.setattr("kspike.paper.figures.reconstructions", lambda setting, noise: recs)
    FIGURES[number](Results(tmp_path), Setting(grid=(1, 1)))
    numbers = json.loads((tmp_path / f"figure{number}.json").read_text())
    assert (tmp_path / f"figure{number}.png").stat().st_size > 10_000
    if number == 5:
        assert numbers["alpha"] == pytest.approx(1, rel=1e-5)  # A*e / A*e, in single precision
    else:
        assert numbers["victim"] == {6: "Tira", 7: "recTV"}[number]
        assert numbers["alpha"]["Tira"] == pytest.approx(1, rel=1e-5)
        assert numbers["alpha"]["TiraFL"] == pytest.approx(0.5, rel=1e-5)
        assert numbers["alpha"]["recTV"] > 0.5


def x_samples(x):
    return kspike.MaskedFourier(kspike.radial_mask(x.shape, 10))(x)


def test_a_second_run_takes_the_pieces_of_the_first(tmp_path, monkeypatch):
    command = ["paper", "figure", "3", *SMALL, "--out", str(tmp_path)]
    assert main(command) == 0
    before = (tmp_path / "figure3.json").read_bytes()
    monkeypatch.setattr("kspike.paper.figures.attack", None)  # would be called, were there no piece
    assert main(command) == 0
    assert (tmp_path / "figure3.json").read_bytes() == before


def test_full_evaluates_as_the_paper_does(tmp_path):
    quick, full = (Setting(size=32, lines=10, grid=(1, 1), full=full) for full in (False, True))
    for folder, setting in (("quick", quick), ("full", full)):
        FIGURES[3](Results(tmp_path / folder), setting)
    numbers = [json.loads((tmp_path / folder / "figure3.json").read_text()) for folder in ("quick", "full")]
    # The attack's own evaluation is within a percent of a converged one.
    assert numbers[0]["artifact"] == pytest.approx(numbers[1]["artifact"], rel=0.02)
    assert numbers[0]["artifact"] != numbers[1]["artifact"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figure", "8"], "invalid choice"),
        (["figure"], "required"),
        (["theory", "nothing"], "invalid choice"),
        (["figure", "1", "--seed", "-1"], "--seed: expected"),
        (["figure", "1", "--grid", "0x2"], "--grid"),
    ],
)
def test_nonsense_is_refused_in_one_line(capsys, tmp_path, arguments, message):
    assert main(["paper", *arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("name", ["damage", "masks", "real", "resolution"])
def test_studies(tmp_path, name):
    small = {"sizes": (32, 64)} if name == "resolution" else {"size": 64}
    STUDIES[name](Results(tmp_path), **small)
    rows = json.loads((tmp_path / f"study-{name}.json").read_text())["rows"]
    assert (tmp_path / f"study-{name}.png").stat().st_size > 10_000
    if name == "damage":
        assert len({round(row["l2"], 6) for row in rows}) == len({round(row["psnr"], 4) for row in rows}) == 1
        named = {row["name"]: row for row in rows}
        # What l2 and PSNR call equal, and SSIM calls least bad, is the worst by local damage.
        assert named["attack on TV, 1 %"]["local_damage"] > 5 * named["noise"]["local_damage"]
        assert named["attack on TV, 1 %"]["ssim"] > named["noise"]["ssim"]
    else:
        assert all(row["alpha"] > 1 and 0.3 < row["units"] < 2 for row in rows)


def test_sparsifiers_are_attacked_each_at_its_best_lam(tmp_path, monkeypatch):
    pytest.importorskip("pywt")
    for name in ("TV, modulus", "TV, isotropic", "db4"):
        monkeypatch.delitem(studies.REGULARISERS, name)
    monkeypatch.setattr(studies, "PATH", (4e-3, 1.6e-2))
    STUDIES["sparsifiers"](Results(tmp_path), size=32, iterations=10)
    rows = json.loads((tmp_path / "study-sparsifiers.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["TV, separable", "Haar"]
    assert all(row["artifact"] > 0 and row["error"] < 1 and row["lam"] in (4e-3, 1.6e-2) for row in rows)


@pytest.mark.parametrize("name", ["artifacts", "schemes"])
def test_theory_is_drawn_with_its_numbers(tmp_path, name):
    SECTION5[name](Results(tmp_path))
    numbers = json.loads((tmp_path / f"theory-{name}.json").read_text())
    if name == "artifacts":
        assert np.all(np.array(numbers["alpha"]) >= np.array(numbers["bound"]) * (1 - 1e-9))
        assert numbers["alpha"][0] == pytest.approx(numbers["n"] / numbers["m"])
    else:
        assert min(numbers["margin separated"]) > 1e-9
        assert np.allclose(np.array(numbers["alpha separated"]) * (2 * numbers["c"] + 1), numbers["n"])
