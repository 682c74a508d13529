# SPDX-License-Identifier: MIT
"""The bookkeeping of the race with other packages: what is still to be tried, what is kept, where to look next."""

import math
import pathlib

import pytest

SETTINGS = [{"rho": rho, "relax": relax} for rho in (0.1, 0.2, 0.4) for relax in (1.0, 1.9)]


@pytest.fixture
def race(monkeypatch):
    """bench/peers/race.py."""
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[1] / "bench" / "peers")
    import race

    return race


def counted(rho, k, gap, **more):
    return {"setting": {"rho": rho}, "curve": [[1, 1.0], [k, gap]], **more}


def test_neighbours_differ_in_one_value_with_none_between(race):
    best = {"rho": 0.2, "relax": 1.9}
    near = [setting for setting in SETTINGS if race.neighbours(setting, best, SETTINGS)]
    assert near == [{"rho": 0.1, "relax": 1.9}, {"rho": 0.2, "relax": 1.0}, {"rho": 0.4, "relax": 1.9}]
    assert not race.neighbours(best, best, SETTINGS)


def test_only_what_could_better_the_best_is_tried_again(race):
    found = {
        "budget": 60,
        "best": {"0.001": [50, {"rho": 1}], "0.0001": [90, {"rho": 1}]},
        "runs": [counted(1, 90, 9e-5), counted(2, 90, 3e-3), counted(3, 70, 3e-3), counted(4, 70, 3e-3, budget=900)],
    }
    wanted = [{"rho": rho} for rho in range(1, 6)]
    assert race.untried(found, wanted, 60) == [{"rho": 5}]
    assert race.untried(found, wanted, 900) == [{"rho": 3}, {"rho": 5}]
    assert race.untried({}, wanted, 60) == wanted
    assert race.untried({"skipped": "not installed"}, wanted, 60) == []


def test_counts_of_two_calls_are_kept_side_by_side(race):
    before = {"budget": 60, "commit": "a", "best": {"0.001": None}, "runs": [counted(1, 9, 0.1), counted(2, 9, 0.2)]}
    now = {"budget": 900, "best": {"0.001": [40, {"rho": 2}]}, "runs": [counted(2, 40, 9e-4)]}
    merged = race.both(before, now)
    assert merged["runs"] == [counted(1, 9, 0.1, budget=60, commit="a"), counted(2, 40, 9e-4)]
    assert merged["best"] == now["best"] and merged["budget"] == 900
    assert race.both(now | {"commit": "b"}, before)["best"] == now["best"]


def test_a_call_that_fails_takes_nothing_away(race, tmp_path):
    record, key = race.Record(tmp_path / "peers.json"), ("count", "SigPy PDHG", 256, "complex64", 1)
    record.add(key, {"budget": 60, "best": {"0.001": None}, "runs": [counted(1, 9, 0.1)]})
    kept = record.get(key)
    record.add(key, {"skipped": "killed"})
    assert record.get(key) == kept


def test_least_seconds_keep_every_count(race):
    a, b = {"20": [3.0, 2.0, 0.1], "30": [4.0, 4.0, None]}, {"20": [2.0, 2.5, 0.1], "40": [5.0, 5.0, None]}
    assert race.least(a, b) == {"20": [2.0, 2.0, 0.1], "30": [4.0, 4.0, None], "40": [5.0, 5.0, None]}


@pytest.mark.parametrize(
    "gap0, gap1", [(1e-3, 2e-3), (1e-3, 1e-3), (0, 1e-3), (-1e-9, 1e-3), (math.inf, 1), (1, math.nan)]
)
def test_the_next_look_is_near_where_the_gap_does_not_fall(race, gap0, gap1):
    assert race.problem.ahead(120, [[100, gap0], [120, gap1]], [1e-4]) == 130


def test_the_next_look_goes_where_the_gaps_point(race):
    assert race.problem.ahead(120, [[100, 1e-2], [120, 1e-3]], [1e-4]) == 140
    assert race.problem.ahead(120, [[100, 1e-2], [120, 9.9e-3]], [1e-4]) == 168
    assert race.problem.ahead(120, [], [1e-4]) == 168


def test_a_timing_is_due_until_it_has_every_count_and_pass(race):
    run = {"passes": 1, "seconds": {"20": [3.0, 2.0, 0.1]}}
    assert race.due(None, 1, [20])
    assert not race.due(run, 1, [20])
    assert race.due(run, 1, [20, 30])
    assert race.due(run, 2, [20])
    assert not race.due({"passes": 1, "skipped": "not installed"}, 2, [20])
