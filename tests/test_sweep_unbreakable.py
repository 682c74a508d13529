# SPDX-License-Identifier: MIT
"""Sweeps that are killed, starved and fed poison: nothing is lost, torn or counted twice, and failures have reasons."""

import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

import pytest

import sweep_torture
from kspike import sweep
from kspike.cli import main
from kspike.sweep.specification import Specification

POISON = """
import os, queue, signal, time
import kspike

def healthy(A):
    return kspike.TVSolver(A.mask, 1e-3)

def hesitates(A):
    put = queue.Queue.put
    queue.Queue.put = lambda *given: (put(*given), time.sleep(1))
    return healthy(A)

def kills(A):
    os.kill(os.getpid(), signal.SIGKILL)

def aborts(A):
    os.abort()

def raises(A):
    raise ValueError("no such \\n luck")

def not_a_number(A):
    class Broken:
        def vjp(self, y):
            return A.adjoint(y) * float("nan"), lambda g: y
    return Broken()

def sleeps(A):
    time.sleep(600)

def starves(A):
    raise MemoryError

def prints(A):
    print('{"id": "nonsense"}')
    return kspike.TVSolver(A.mask, 1e-3)
"""


@pytest.fixture
def store(tmp_path, monkeypatch):
    (tmp_path / "poison.py").write_text(POISON)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # of the workers
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "poison", raising=False)
    return sweep.Store(tmp_path / "sweep")


def specification(*made, images=3, size=24, **keys):
    return Specification(
        {
            "images": [{"kind": "ellipses", "size": size, "count": images}],
            "masks": [{"kind": "radial", "lines": 8}],
            "noise": [0.05],
            "reconstructions": [{"kind": "python", "make": f"poison:{name}"} for name in made],
            "attack": {"steps": 2, "final": 5},
            "grid": [1, 1],
            **keys,
        }
    )


def test_a_short_torture(tmp_path):
    """Ten kills; `python tests/sweep_torture.py` makes as many as you like."""
    figures = sweep_torture.torture(tmp_path, kills=10, images=12, workers=2, pause=2.0, seed=1)
    assert figures["driver kills"] + figures["worker kills"] >= 10
    for name in ("torn parts seen", "lost", "corrupt", "duplicated", "left-over files"):
        assert figures[name] == 0, f"{name}: {figures[name]}, after {figures['sweeps']} sweeps"


def test_a_driver_killed_while_it_tries_the_folder_leaves_nothing_for_the_next(store):
    killed = (
        "import os, pathlib, signal, sys\n"
        "from kspike import sweep\n"
        "pathlib.Path.unlink = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sweep.Store(sys.argv[1]).open()"
    )
    environment = os.environ | {"PYTHONPATH": str(sweep_torture.SOURCE)}
    done = subprocess.run([sys.executable, "-c", killed, store.folder], env=environment)
    assert done.returncode == -signal.SIGKILL
    store.open()
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []


def test_a_driver_killed_before_it_forgets_a_failure_leaves_that_to_the_next(store):
    asked = specification("healthy", images=2)
    sweep.run(asked, store, workers=1)
    task = asked.tasks()[0].id
    store.fail(task, "killed its worker 2 times", {})
    assert sweep.run(asked, store).failures == {} == store.failures([task])


def test_a_part_on_the_disk_before_its_worker_goes_on(store):
    """The thread that writes may be faster than the one that hands it the part."""
    assert sweep.run(specification("hesitates", images=2), store, workers=1).done == 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("kills", "killed its worker 2 times, the last by signal SIGKILL"),
        ("aborts", "killed its worker 2 times, the last by signal SIGABRT: "),
        ("starves", "killed its worker 2 times, the last by exit status 1: MemoryError"),
        ("raises", "ValueError: no such luck (poison.py:"),
        ("not_a_number", "ValueError: rec: expected a finite reconstruction of y, got NaN or infinity (attack.py:"),
    ],
)
def test_poison_is_recorded_with_its_reason_and_the_rest_is_finished(store, name, reason):
    asked = specification("healthy", name, images=2)
    summary = sweep.run(asked, store, workers=2)
    assert summary.done == 2 and len(summary.failures) == 2
    assert all(text.startswith(reason) for text in summary.failures.values()), summary.failures
    assert summary.deaths == (4 if "killed" in reason else 0)
    again = sweep.run(asked, store, workers=2)
    assert again.computed == 0 and again.failures == summary.failures, "not tried for ever"
    results = sweep.collect(asked, store)
    assert results.missing == 0 and (results.best[0] >= 0).all() and (results.best[1] == -1).all()
    assert {r["reason"] for r in results.failures.values()} == set(summary.failures.values())
    page = sweep.report(asked, store).read_text()
    assert "2 tasks failed" in page and page.count(reason.partition("(")[0]) == 2


def test_what_failed_is_tried_again_when_asked(store, tmp_path):
    asked = specification("raises")
    assert len(sweep.run(asked, store).failures) == 3
    (tmp_path / "poison.py").write_text(POISON.replace("def raises", "def raised").replace("def healthy", "def raises"))
    summary = sweep.run(asked, store, retry=True)
    assert summary.done == 3 and not summary.failures
    assert not list(store.folder.glob("failed/*")) and not sweep.run(asked, store).failures


def test_a_task_that_takes_too_long_is_given_up(store):
    summary = sweep.run(specification("sleeps", "healthy", images=1), store, workers=2, timeout=2)
    assert summary.done == 1
    (reason,) = summary.failures.values()
    assert reason.startswith("took longer than 2 s 2 times")


def test_what_libraries_print_does_not_disturb(store):
    summary = sweep.run(specification("prints"), store)
    assert summary.done == 3 and not summary.failures


def test_a_full_disk_stops_the_sweep_and_costs_nothing(store, tmp_path, monkeypatch, capsys):
    """Files may not grow beyond 4 kB, which is how a full disk looks to a part of 40 kB; records of 4 kB fit."""
    monkeypatch.chdir(tmp_path)
    source = specification("healthy", size=64, keep=["artifact"]).source
    pathlib.Path("s.json").write_text(json.dumps(source))
    line = [sys.executable, "-m", "kspike", "sweep", "run", "s.json", "--out", str(store.folder), "--quiet"]
    path = os.pathsep.join([str(tmp_path), str(sweep_torture.SOURCE)])

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    run = {"env": os.environ | {"PYTHONPATH": path}, "capture_output": True, "text": True}
    full = subprocess.run(line, preexec_fn=limit, **run)
    assert full.returncode == 2 and full.stderr.count("\n") == 1, full.stderr
    assert "results cannot be read or written: [Errno 27] File too large" in full.stderr
    assert "the same command goes on" in full.stderr
    assert not [p for p in store.folder.rglob("*") if p.is_file()], "no failure recorded, nothing half written"
    room = subprocess.run(line, **run)
    assert room.returncode == 0 and "3 of 3 tasks" in room.stdout


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("s.json").write_text(json.dumps(specification("healthy").source))
    pathlib.Path("a file").write_text("")
    pathlib.Path("locked").mkdir(mode=0o500)
    for folder in ("a file", "/proc/kspike", *(["locked/x"] if os.getuid() else [])):
        assert main(["sweep", "run", "s.json", "--out", folder, "--quiet"]) == 2
        err = capsys.readouterr().err
        assert "expected a folder that can be written to" in err and folder in err and err.count("\n") == 1


def test_workers_that_cannot_start_are_an_error_and_no_loop(store, monkeypatch, tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError('numpy is broken here')")
    with pytest.raises(
        ChildProcessError, match="5 workers in a row could not start: exit status 1: ImportError: numpy"
    ):
        sweep.run(specification("healthy"), store, workers=2)


def test_ctrl_c_ends_the_workers_and_the_same_command_goes_on(store, tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(specification("sleeps", images=2).source))
    line = [sys.executable, "-m", "kspike", "sweep", "run", "s.json", "--out", str(store.folder), "--quiet"]
    path = os.pathsep.join([str(tmp_path), str(sweep_torture.SOURCE)])
    # whoever runs the tests in the background may have it ignored, and so would the driver
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    driver = subprocess.Popen(
        line, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.PIPE, text=True, process_group=0
    )
    signal.signal(signal.SIGINT, heard)
    workers = _wait(lambda: sweep_torture.children(driver.pid))
    time.sleep(1)
    os.killpg(driver.pid, signal.SIGINT)
    assert driver.wait(60) == 130
    assert driver.stderr.read() == "kspike: stopped; the same command goes on\nkspike: interrupted\n"
    driver.stderr.close()
    _wait(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in workers))


def test_workers_end_with_their_driver(store, tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(specification("sleeps", images=2).source))
    line = [sys.executable, "-m", "kspike", "sweep", "run", "s.json", "--out", str(store.folder), "--quiet"]
    path = os.pathsep.join([str(tmp_path), str(sweep_torture.SOURCE)])
    driver = subprocess.Popen(line, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.DEVNULL)
    workers = _wait(lambda: sweep_torture.children(driver.pid))
    time.sleep(1.5)  # until they listen
    driver.kill()
    driver.wait()
    _wait(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in workers))


def _wait(condition, seconds=60):
    """Wait for a condition and return what it is."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return value


# Elsewhere


def test_the_shards_on_a_dask_cluster(tmp_path, monkeypatch, capsys):
    distributed = pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(sweep_torture.SOURCE), str(tmp_path)]))
    (tmp_path / "poison.py").write_text(POISON)
    pathlib.Path("s.json").write_text(json.dumps(specification("healthy", images=4).source))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        line = ["sweep", "run", "s.json", "--dask", cluster.scheduler_address, "--workers", "1", "--quiet"]
        assert main(line) == 0
        assert "4 of 4 tasks, 100 %" in capsys.readouterr().out
        pathlib.Path("s.json").write_text(json.dumps(specification("healthy", "raises", images=4).source))
        assert main(line) == 2
        said = capsys.readouterr()
        assert "4 of 8 tasks, 50 %" in said.out and said.out.count("ValueError: no such luck") == 4
        assert "of 2 shards ended with an error" in said.err


def test_the_shards_through_submitit(tmp_path, monkeypatch, capsys):
    pytest.importorskip("submitit")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(sweep_torture.SOURCE), str(tmp_path)]))
    (tmp_path / "poison.py").write_text(POISON)
    pathlib.Path("s.json").write_text(json.dumps(specification("healthy", images=4).source))
    line = ["sweep", "run", "s.json", "--submitit", "local", "--shards", "2", "--workers", "1", "--quiet"]
    assert main(line) == 0
    assert "4 of 4 tasks, 100 %" in capsys.readouterr().out
