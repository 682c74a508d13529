# SPDX-License-Identifier: MIT
import builtins
import os
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pytest

import kspike.cli.attack
import kspike.cli.info
import kspike.cli.options
from kspike import metrics
from kspike._backends import select
from kspike.cli import main
from kspike.phantoms import ellipses
from kspike.sampling import radial_mask, subsampling_factor

pytest.importorskip("matplotlib")

try:
    ENGINE = select().__name__.rpartition(".")[-1]
except ImportError:
    ENGINE = "reference"
SMALL = ["attack", "--size", "32", "--lines", "8", "--grid", "2x2", "--backend", ENGINE]
ARRAYS = {
    *("image", "mask", "perturbation", "artifact", "image_perturbation", "reconstruction", "clean", "locations"),
    *("amplifications", "artifact_maxima", "location", "noise", "radius", "lam", "seed", "version"),
}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KSPIKE_BACKEND", raising=False)


def refused(capsys, arguments, *words):
    """Exit status 2, one line on stderr that holds the words, nothing on stdout, no file written."""
    before = sorted(os.listdir("."))
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("kspike: error: ") and err.count("\n") == 1 and err.endswith("\n")
    for word in words:
        assert word in err
    assert sorted(os.listdir(".")) == before


def attacked(capsys, *arguments):
    """Run a small attack; the printed table and the arrays."""
    assert main([*SMALL, *arguments]) == 0
    table = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.replace("largest ", "").splitlines())
    with np.load("kspike-attack.npz") as file:
        return table, dict(file)


@pytest.mark.parametrize("arguments", [["info"], ["--help"], SMALL])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nobody_reads_ends_in_silence(arguments, unbuffered):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "kspike", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, env=environment, stdout=write, stderr=subprocess.PIPE, timeout=120)
    os.close(write)
    assert done.returncode in ((0, 141) if "--help" in arguments else (141,))  # argparse lets failed writes be
    assert b"Broken" not in done.stderr and b"Traceback" not in done.stderr


def test_the_files_agree_with_each_other_and_with_what_is_printed(capsys):
    table, found = attacked(capsys)
    assert pathlib.Path("kspike-attack.png").read_bytes().startswith(b"\x89PNG")
    assert set(found) == ARRAYS
    mask, row_col = found["mask"], tuple(found["location"])
    assert np.array_equal(found["image"], ellipses((32, 32), seed=0))
    assert np.array_equal(mask, radial_mask((32, 32), 8))
    assert found["perturbation"].shape == (mask.sum(),) and found["locations"].shape == (2, 2, 2)
    assert np.array_equal(found["artifact"], found["reconstruction"] - found["clean"])
    assert found["lam"] == pytest.approx(0.14 * 0.04)
    y = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(found["image"]), norm="ortho"))[mask]
    # Norms of a few hundred single-precision numbers: within 1e-5.
    assert np.linalg.norm(found["perturbation"]) == pytest.approx(0.04 * np.linalg.norm(y), rel=1e-5)
    best = np.unravel_index(found["artifact_maxima"].argmax(), (2, 2))
    assert row_col == tuple(found["locations"][best])
    alpha = metrics.amplification(found["artifact"], found["image_perturbation"])
    assert alpha == pytest.approx(found["amplifications"][best], rel=1e-5)
    # What is printed is rounded to four digits.
    assert float(table["alpha"]) == pytest.approx(alpha, rel=1e-3)
    assert float(table["artifact"]) == pytest.approx(metrics.max_modulus(found["artifact"]), rel=1e-3)
    perturbed = metrics.max_modulus(found["image_perturbation"])
    assert float(table["image"].removeprefix("perturbation")) == pytest.approx(perturbed, rel=1e-3)
    assert f"{subsampling_factor(mask):.4g}" in table["samples"]
    assert ENGINE in table["engine"] and table["written"] == "kspike-attack.png kspike-attack.npz"


def test_the_same_seed_gives_the_same_files_and_threads_do_not_matter(capsys):
    _, one = attacked(capsys, "--threads", "1")
    _, two = attacked(capsys, "--threads", "2", "--seed", "0")
    _, other = attacked(capsys, "--seed", "1")
    assert not np.array_equal(one["image"], other["image"])
    for name in ARRAYS:
        if np.asarray(one[name]).dtype.kind in "fc":
            # Locations of one batch share a transform whose order of additions depends on the batch.
            np.testing.assert_allclose(one[name], two[name], rtol=1e-3, atol=1e-3 * np.abs(one[name]).max())


def test_files_go_in_and_come_out_by_their_names(capsys, tmp_path):
    x = 0.5 * ellipses((24, 32), seed=2) + 0.1j
    np.save("x.npy", x.astype(np.complex64))
    np.save("m.npy", radial_mask((24, 32), 6))
    out = tmp_path / "deep"
    out.mkdir()
    arguments = ["attack", "--image", "x.npy", "--mask", "m.npy", "--noise", "0.02", "--lam", "0.003", "--radius", "2"]
    assert main([*arguments, "--grid", "1x2", "--backend", ENGINE, "--quiet", "--out", str(out / "r.npz")]) == 0
    printed, err = capsys.readouterr()
    assert err == "" and "x.npy, 24 x 32" in printed and "m.npy" in printed
    assert sorted(os.listdir(out)) == ["r.npz", "r.png"]
    with np.load(out / "r.npz") as file:
        assert np.array_equal(file["image"], np.load("x.npy")) and np.array_equal(file["mask"], np.load("m.npy"))
        assert file["lam"] == 0.003 and file["noise"] == 0.02 and file["radius"] == 2
        assert file["amplifications"].shape == (1, 2)


def test_the_arrays_of_one_attack_start_another(capsys):
    attacked(capsys)
    again = ["--image", "kspike-attack.npz", "--mask", "kspike-attack.npz", "--out", "again"]
    assert main(["attack", "--grid", "1x1", "--backend", ENGINE, "--quiet", *again]) == 0
    with np.load("again.npz") as a, np.load("kspike-attack.npz") as b:
        assert np.array_equal(a["image"], b["image"]) and np.array_equal(a["mask"], b["mask"])


def test_lam_follows_the_scale_of_the_image(capsys):
    np.save("x.npy", 0.25 * ellipses((32, 32), seed=0))
    arguments = ["attack", "--image", "x.npy", "--lines", "8", "--grid", "1x1", "--backend", ENGINE, "--quiet"]
    assert main(arguments) == 0
    with np.load("kspike-attack.npz") as file:
        assert file["lam"] == pytest.approx(0.25 * 0.14 * 0.04)


@pytest.mark.parametrize("bar", ["tqdm", "count", "quiet"])
def test_progress_goes_to_stderr(capsys, monkeypatch, bar):
    if bar == "tqdm":
        pytest.importorskip("tqdm")
    elif bar == "count":
        real = builtins.__import__

        def without(name, *rest):
            if name == "tqdm":
                raise ModuleNotFoundError("No module named 'tqdm'", name="tqdm")
            return real(name, *rest)

        monkeypatch.setattr(builtins, "__import__", without)
    assert main([*SMALL, *(["--quiet"] if bar == "quiet" else [])]) == 0
    out, err = capsys.readouterr()
    assert "locations" not in out and "alpha" in out
    assert {"tqdm": "/4 " in err, "count": err.endswith("\r4 / 4 locations\n"), "quiet": err == ""}[bar]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["COMMAND"]),
        (["attak"], ["attak"]),
        (["info", "--x"], ["--x"]),
        (["attack", "--noise", "much"], ["--noise", "much"]),
        (["attack", "--noise", "4"], ["--noise: expected a number in (0, 1), 4 % being 0.04, got 4"]),
        (["attack", "--noise", "0"], ["--noise"]),
        (["attack", "--noise", "-0.1"], ["--noise"]),
        (["attack", "--noise", "nan"], ["--noise"]),
        (["attack", "--grid", "8"], ["two positive numbers such as 8x8, got '8'"]),
        (["attack", "--grid", "0x8"], ["--grid"]),
        (["attack", "--grid", "-1x8"], ["--grid"]),
        (["attack", "--grid", "8x8x8"], ["--grid"]),
        (["attack", "--size", "32", "--grid", "33x1"], ["grid: expected", "(33, 1)"]),
        (["attack", "--size", "0"], ["shape: expected (rows, cols) of positive integers, got (0, 0)"]),
        (["attack", "--size", "-5"], ["shape: expected"]),
        (["attack", "--size", "2"], ["shape: expected", "(2, 2)"]),
        (["attack", "--size", "1.5"], ["--size", "1.5"]),
        (["attack", "--lines", "0"], ["lines: expected an integer of at least 1, got 0"]),
        (["attack", "--lines", "5", "--mask", "m.npy"], ["--mask", "not allowed with", "--lines"]),
        (["attack", "--size", "32", "--radius", "-1"], ["radius: expected"]),
        (["attack", "--size", "32", "--lam", "-1"], ["lam: expected"]),
        (["attack", "--size", "32", "--lam", "nan"], ["lam: expected"]),
        (["attack", "--size", "32", "--threads", "0"], ["threads: expected an integer of at least 1, got 0"]),
        (["attack", "--seed", "-1"], ["--seed: expected"]),
        (["attack", "--seed", str(2**63)], ["--seed: expected"]),
        (["attack", "--backend", "fortran"], ["--backend", "fortran"]),
        (["attack", "--slice", "1"], ["--slice: expected --image"]),
        (["attack", "--image", "none.png"], ["none.png: no such file"]),
        (["attack", "--image", "."], ["expected a file, got a folder"]),
        (["attack", "--image", "bad.npy"], ["bad.npy: expected an array of numbers"]),
        (["attack", "--image", "nan.npy"], ["nan.npy: expected finite numbers"]),
        (["attack", "--image", "zero.npy"], ["zero.npy: expected an image that is not zero everywhere"]),
        (["attack", "--image", "ones.npy", "--size", "9"], ["expected at least 9 x 9 pixels"]),
        (["attack", "--image", "ones.npy", "--slice", "3"], ["expected a slice from 0 to 0, got 3"]),
        (["attack", "--mask", "none.npy"], ["none.npy: no such file"]),
        (["attack", "--mask", "ones.npy"], ["ones.npy: expected a mask of the image's shape 256 x 256, got 8 x 8"]),
        (["attack", "--mask", "zero.npy"], ["zero.npy: expected a mask of zeros and one other value, got only zeros"]),
        (["attack", "--out", "nowhere/x"], ["--out: expected a folder that exists, got nowhere"]),
        (["attack", "--out", ""], ["--out: expected the name of a file"]),
        (["attack", "--out", "bad.npy/x"], ["--out: expected a folder"]),
        (["attack", "--out", "taken"], ["--out: expected files that can be written", "taken.npz"]),
    ],
)
def test_wrong_input_is_one_line_and_status_two(capsys, arguments, words):
    pathlib.Path("bad.npy").write_bytes(b"garbage")
    pathlib.Path("taken.npz").mkdir()
    for name, value in {"nan": np.nan, "zero": 0.0, "ones": 1.0}.items():
        np.save(f"{name}.npy", np.full((8, 8), value))
    refused(capsys, arguments, *words)


def test_an_unwritable_folder_is_noticed_before_the_work(capsys, monkeypatch):
    def never(*_, **__):
        raise AssertionError("the work began")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied", "locked")

    monkeypatch.setattr(kspike.cli.attack, "attack", never)
    monkeypatch.setattr(kspike.cli.options.tempfile, "TemporaryFile", denied)
    refused(capsys, SMALL, "--out: expected files that can be written", "Permission denied")


@pytest.mark.parametrize("name", ["cupy", "fortran"])
def test_the_environment_is_checked_too(capsys, monkeypatch, name):
    monkeypatch.setenv("KSPIKE_BACKEND", name)
    refused(capsys, ["attack", "--size", "32"], name)


def test_a_missing_package_is_one_line(capsys, monkeypatch):
    def missing():
        raise ImportError("pictures need matplotlib: pip install 'kspike[plot]'")

    monkeypatch.setattr(kspike.cli.attack.plots, "need_matplotlib", missing)
    refused(capsys, SMALL, "pip install 'kspike[plot]'")


def test_interruption_is_one_line_and_status_130(capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(kspike.cli.attack, "attack", interrupted)
    assert main([*SMALL, "--quiet"]) == 130
    assert capsys.readouterr() == ("", "kspike: interrupted\n")


def test_too_large_an_image_is_one_line(capsys, monkeypatch):
    def exhausted(*_, **__):
        raise MemoryError

    monkeypatch.setattr(kspike.cli.options.phantoms, "ellipses", exhausted)
    refused(capsys, SMALL, "fits in memory")


def test_warnings_are_one_line(capsys, monkeypatch):
    def warns(_):
        warnings.warn("careful", stacklevel=2)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        monkeypatch.setattr(kspike.cli.info, "_info", warns)
        assert main(["info"]) == 0
    assert capsys.readouterr() == ("", "kspike: warning: careful\n")


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["attack", "--help"], ["info"]])
def test_information_goes_to_stdout_with_status_zero(capsys, arguments):
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert out and err == ""


def test_info_names_every_engine_and_what_to_type_for_those_missing(capsys, monkeypatch):
    monkeypatch.setitem(kspike.cli.info.ENGINES, "absent", ("nothing", "pip install nothing"))
    main(["info"])
    out = capsys.readouterr().out
    for name in kspike.cli.info.ENGINES:
        assert f"engine   {name}" in out
    assert "reference  available" in out


def test_python_m_kspike():
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(kspike.__file__).parents[1])}

    def run(*arguments):
        command = [sys.executable, "-m", "kspike", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    good = run(*SMALL, "--quiet")
    assert good.returncode == 0 and "alpha" in good.stdout and good.stderr == ""
    bad = run("attack", "--image", "none.png")
    assert (bad.returncode, bad.stdout, bad.stderr) == (2, "", "kspike: error: none.png: no such file\n")


# --- kspike tune -----------------------------------------------------------------------------------------------------


def test_tune_prints_the_best_lam_and_draws_the_curve(capsys):
    small = ["tune", "--size", "32", "--lines", "12", "--count", "2", "--noise", "0.05", "--backend", ENGINE]
    assert main([*small, "--threads", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = dict(line.split(maxsplit=1) for line in lines[10:])
    (best,) = (line.split() for line in lines[:10] if line.endswith("best"))
    assert float(best[1]) == min(float(line.split()[1]) for line in lines[:10])
    assert table["lam"] == best[0] and table["criterion"] == "truth"
    assert pathlib.Path("kspike-tune.png").read_bytes().startswith(b"\x89PNG")


def test_tune_refuses_in_one_line(capsys):
    refused(capsys, ["tune", "--noise", "4"], "--noise")
    refused(capsys, ["tune", "--count", "0"], "--count")
    refused(capsys, ["tune", "--out", "nowhere/curve.png"], "--out", "nowhere")
