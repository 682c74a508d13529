# SPDX-License-Identifier: MIT
"""Arrays of other libraries through DLPack: the same memory in, the same library out."""

import numpy as np
import pytest
import torch

import kspike
from kspike.interop.arrays import export, native, through

MASK = kspike.radial_mask((24, 20), 7)
TV = kspike.TVSolver(MASK, 0.5)


def samples(seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((3, TV.samples)) + 1j * rng.standard_normal((3, TV.samples))).astype(np.complex64)


def test_torch_shares_its_memory():
    tensor = torch.from_numpy(samples())
    seen = native(tensor)
    assert seen.ctypes.data == tensor.data_ptr()
    assert export(seen, tensor).data_ptr() == tensor.data_ptr()


def test_a_solve_through_torch():
    y = samples()
    x = through(TV)(torch.from_numpy(y))
    assert isinstance(x, torch.Tensor)
    assert np.array_equal(x.numpy(), TV(y))
    assert isinstance(through(TV)(y), np.ndarray)


def test_a_solve_through_the_strict_standard():
    strict = pytest.importorskip("array_api_strict", reason="not installed: pip install array-api-strict")
    y = samples(1)
    given = strict.asarray(y)
    x = through(TV.A.adjoint)(given)
    assert x.__array_namespace__().__name__ == "array_api_strict"
    assert np.array_equal(np.from_dlpack(x), TV.A.adjoint(y))


def test_what_is_no_array_passes():
    pair = through(lambda x, scale, *, name: (scale * x, name))(torch.ones(2), 3, name="a")
    assert torch.equal(pair[0], torch.full((2,), 3.0))
    assert pair[1] == "a"
    with pytest.raises(TypeError, match="expected an array with __dlpack__"):
        native([1, 2])


def test_a_tensor_that_records_says_so():
    with pytest.raises((BufferError, RuntimeError), match=r"requires? grad"):
        through(TV)(torch.from_numpy(samples()).requires_grad_())
