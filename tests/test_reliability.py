# SPDX-License-Identifier: MIT
"""The campaigns of tests/reliability in their short versions."""

import ctypes
import importlib
import os
import shutil

import pytest

pytest.importorskip("kspike._core", reason="the C++ engine was not built")


@pytest.mark.parametrize("name", ["accuracy", "adjoints", "agreement", "edges", "large", "bindings", "readers"])
def test_the_campaign_passes(name):
    if name == "large" and not hasattr(os, "memfd_create"):
        pytest.skip("no memfd_create to map one piece of memory many times")
    if name == "bindings" and not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("no mallinfo2 (glibc 2.33 or later) to count the memory with")
    passed, table = importlib.import_module(name).run(0)
    assert table and passed, table


def test_attacks_keep_no_memory():
    from endurance import GROWTH, attacks

    attacks(0)  # what is kept for later is there then
    _, growth = attacks(0)
    assert growth <= GROWTH


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the engine with")
@pytest.mark.parametrize("name", ["sanitizers", "mutations"])
def test_the_campaign_of_other_builds_passes(name):
    passed, table = importlib.import_module(name).run(0)
    assert table and passed, table


@pytest.mark.parametrize(("backend", "images"), [("cpp", 1), ("cpp", 3), ("numba", 3)])
def test_an_interrupted_solve_answers_and_its_plan_lives_on(backend, images):
    if backend == "numba":
        pytest.importorskip("numba")
    from endurance import ANSWER, interruption

    seconds, same = interruption(backend, 256, images)
    assert seconds <= ANSWER and same
