# SPDX-License-Identifier: MIT
"""The CUDA engine without a GPU: its sources run on the fiber emulator, its Python on NumPy arrays (tests/cuda).

Every test of test_kernels and test_plan that is imported here runs on the emulated engine; those defined here add the
sizes that have transforms of our own, the order of threads, races, and an attack.
"""

import inspect
import shutil

import numpy as np
import pytest

import test_kernels
import test_plan
from conftest import Engine
from cuda import emulator

if shutil.which("g++") is None:
    pytest.skip("the emulator needs g++", allow_module_level=True)


@pytest.fixture(scope="session")
def emulated(tmp_path_factory):
    return emulator.engine(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def engine(emulated, dtype):
    return Engine("emulated", emulated, dtype, np)


for module in (test_kernels, test_plan):
    for name, test in vars(module).items():
        if name.startswith("test_") and "engine" in inspect.signature(test).parameters:
            globals()[name] = test
