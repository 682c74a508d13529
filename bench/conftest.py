# SPDX-License-Identifier: MIT
"""Sizes of the benches, from --sizes; nothing here runs before they are known."""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # one thread, before any of these libraries is loaded


def pytest_addoption(parser):
    """--sizes 256,512."""
    parser.addoption("--sizes", default="256,512,1024", help="sides of the images, with commas")


def pytest_generate_tests(metafunc):
    """The fixture `n`: one size after the other."""
    if "n" in metafunc.fixturenames:
        metafunc.parametrize("n", [int(n) for n in metafunc.config.getoption("sizes").split(",")])
