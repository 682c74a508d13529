# SPDX-License-Identifier: MIT
"""kspike.nets: the networks of robust-nets by name, shape and value; the first layers; training; checkpoints.

With KSPIKE_ROBUST_NETS=/path/to/robust-nets/ellipses the networks run beside the classes they are named after. Without
it they are held to what those classes gave: the recorded numbers below.
"""

import hashlib
import importlib
import json
import os
import sys
import unittest.mock

import numpy as np
import pytest

import kspike
from conftest import draw

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
kt = importlib.import_module("kspike.torch")
nets = importlib.import_module("kspike.nets")
drawn = importlib.import_module("kspike.nets.ellipses").ellipses
inverse = importlib.import_module("kspike.nets.inverse")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The tests run side by side: more threads than cores would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


PAPER = dict(
    in_channels=2,
    out_channels=2,
    drop_factor=0.0,
    down_blocks=(5, 7, 9, 12, 15),
    up_blocks=(15, 12, 9, 7, 5),
    pool_factors=(2, 2, 2, 2, 2),
    bottleneck_layers=20,
    growth_rate=16,
    out_chans_first_conv=16,
)
UNEVEN = dict(
    in_channels=2,
    out_channels=1,
    down_blocks=(1, 2, 3),
    up_blocks=(2, 1, 3),
    pool_factors=(2, 3, 2),
    bottleneck_layers=2,
    growth_rate=3,
    out_chans_first_conv=5,
)
CASES = {
    "tiramisu": ("Tiramisu", PAPER, (32, 64)),
    "uneven tiramisu": ("Tiramisu", UNEVEN, (24, 36)),
    "unet": ("UNet", dict(in_channels=2, out_channels=2, base_features=24, drop_factor=0.0), (32, 48)),
}
# What robust-nets' classes gave: tensors, numbers in them, sha256 of their names and shapes, and of the output for the
# weights and the input of `filled` and `image` the mean, the mean modulus and the last number.
RECORDED = {
    "tiramisu": (866, 14377500, "2b18c9d8bbe1a290", 0.04989967902110948, 2.8322189281043393, 1.9609675407409668),
    "uneven tiramisu": (134, 9611, "0a8bc964a12e7e9d", 1.7389841478973351, 1.7395995608875874, 1.747840404510498),
    "unet": (136, 4374524, "3d43bf1ee2bdd0ea", 1.0343005991364695, 1.0594916350083683, 1.5320006608963013),
}


def filled(net):
    """The net in evaluation mode with weights that depend on names and shapes only."""
    state = net.state_dict()
    for i, (name, t) in enumerate(sorted(state.items())):
        values = np.random.default_rng(i).standard_normal(t.shape)
        if name.endswith("running_var"):
            values = 0.5 + values**2
        elif t.ndim > 1:
            values = values / np.sqrt(values[0].size)
        t.copy_(torch.from_numpy(np.asarray(values)))
    return net.eval()


def image(channels, shape):
    return torch.from_numpy(np.random.default_rng(7).standard_normal((2, channels, *shape)).astype(np.float32))


def facts(net, options, shape):
    listing = "\n".join(f"{name} {tuple(t.shape)}" for name, t in net.state_dict().items())
    with torch.no_grad():
        x = filled(net)(image(options["in_channels"], shape)).double()
    return (
        len(net.state_dict()),
        sum(t.numel() for t in net.state_dict().values()),
        hashlib.sha256("\n".join(sorted(listing.splitlines())).encode()).hexdigest()[:16],
        x.mean().item(),
        x.abs().mean().item(),
        x.flatten()[-1].item(),
    )


@pytest.fixture(scope="module")
def theirs():
    """Their modules `networks` and `operators`, with what they import and PyTorch no longer has put in place."""
    folder = os.environ.get("KSPIKE_ROBUST_NETS")
    if not folder:
        pytest.skip("KSPIKE_ROBUST_NETS is not set: no checkout of robust-nets to run beside")

    def transform(function):
        def apply(data, signal_ndim, normalized):
            dims = tuple(range(-signal_ndim, 0))
            z = function(torch.view_as_complex(data.contiguous()), dim=dims, norm="ortho")
            return torch.view_as_real(z)

        return apply

    absent = ("pytorch_radon", "torch_cg", "skimage", "skimage.transform", "pandas", "tqdm")
    stubs = {name: unittest.mock.MagicMock() for name in absent}
    with unittest.mock.patch.dict(sys.modules, stubs), unittest.mock.patch.object(sys, "path", [folder, *sys.path]):
        found = importlib.import_module("networks"), importlib.import_module("operators")
    found[1].transforms.fft2 = lambda data: centred(torch.fft.fft2, data)
    found[1].transforms.ifft2 = lambda data: centred(torch.fft.ifft2, data)
    with unittest.mock.patch.object(torch, "ifft", transform(torch.fft.ifftn), create=True):
        yield found


def centred(function, data):
    z = torch.fft.ifftshift(torch.view_as_complex(data.contiguous()), (-2, -1))
    return torch.view_as_real(torch.fft.fftshift(function(z, norm="ortho"), (-2, -1)))


@pytest.mark.parametrize("case", CASES)
def test_names_shapes_and_values_are_those_of_robust_nets(case):
    name, options, shape = CASES[case]
    found = facts(getattr(nets, name)(**options), options, shape)
    assert found[:3] == RECORDED[case][:3]
    np.testing.assert_allclose(found[3:], RECORDED[case][3:], rtol=1e-4)  # sums over a hundred layers, in any order


@pytest.mark.parametrize("case", CASES)
def test_beside_robust_nets(theirs, case):
    name, options, shape = CASES[case]
    their, our = getattr(theirs[0], name)(**options), getattr(nets, name)(**options)
    our.load_state_dict(filled(their).state_dict())
    x = image(options["in_channels"], shape)
    with torch.no_grad():
        torch.testing.assert_close(our.double().eval()(x.double()), their.double()(x.double()), rtol=1e-12, atol=1e-12)
        ours, expected = our.float()(x), their.float()(x)
    assert (ours - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("learnable", [False, True], ids=["Tira", "TiraFL"])
def test_the_whole_chain_beside_robust_nets(theirs, learnable):
    """Inversion, two steps with data consistency: their state dict loads into ours, and the images are the same."""
    networks, operators = theirs
    shape = (24, 36)
    mask = kspike.radial_mask(shape, lines=9)
    their_mask = torch.from_numpy(mask)[None, None]
    options = UNEVEN | {"out_channels": 2}
    torch.manual_seed(0)
    their = networks.IterativeNet(
        filled(networks.Tiramisu(**options)),
        operators.Fourier(their_mask),
        operators.LearnableInverter(shape, their_mask, learnable=learnable),
        num_iter=2,
        lam=[0.3, 0.6],
        lam_learnable=[False, True],
        final_dc=True,
        resnet_factor=0.9,
    ).eval()
    inverter = nets.LearnedInverse(mask) if learnable else nets.ZeroFilled(mask)
    our = nets.IterativeNet(nets.Tiramisu(**options), inverter, mask, num_iter=2, final_dc=True, resnet_factor=0.9)
    our.load_state_dict(their.state_dict())
    y = torch.from_numpy(draw(np.random.default_rng(0), 2, mask.sum())).to(torch.complex64)
    with torch.no_grad():
        x, expected = our.eval()(y), kt.from_channels(their(torch.stack([y.real, y.imag], -2)))
    assert (x - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("shape", [(8, 8), (7, 12), (9, 5)], ids=str)
def test_the_learned_inverse_begins_as_the_transform(rng, shape):
    mask = rng.random(shape) < 0.6
    y = torch.from_numpy(draw(rng, 2, mask.sum())).to(torch.complex64)
    expected = nets.ZeroFilled(mask)(y)
    torch.testing.assert_close(nets.LearnedInverse(mask, noise=0)(y), expected, rtol=0, atol=1e-6)
    noisy = nets.LearnedInverse(mask, noise=1 / 16)
    weight = noisy.learnable_ifft["linear1"].linear.weight
    away = weight.detach() - inverse.inverse_dft(shape[0])
    assert float(away.std()) == pytest.approx(1 / 16 / np.sqrt(shape[0]), rel=0.2)  # of 4 n^2 >= 196 numbers
    assert (noisy(y) - expected).abs().max() > 1e-3


def test_zero_filling_takes_the_transform_and_nothing_learned(rng):
    mask = rng.random((6, 8)) < 0.6
    state = nets.LearnedInverse(mask, noise=0).state_dict()
    assert list(state) == list(inverse.WEIGHTS)
    nets.ZeroFilled(mask).load_state_dict(state)
    with pytest.raises(ValueError, match=r"learnable_ifft.linear1.linear.weight: expected the inverse DFT"):
        nets.ZeroFilled(mask).load_state_dict(nets.LearnedInverse(mask).state_dict())


def test_data_consistency_gives_the_samples_back(rng):
    mask = kspike.radial_mask((16, 16), lines=5)
    net = nets.IterativeNet(nets.UNet(base_features=2), nets.ZeroFilled(mask), mask, lam=1.0, final_dc=True).eval()
    y = torch.from_numpy(draw(rng, 3, mask.sum())).to(torch.complex64)
    with torch.no_grad():
        torch.testing.assert_close(net.A(net(y)), y, rtol=0, atol=1e-4)


SMALL = dict(
    kind="tirafl",
    size=32,
    lines=9,
    warmup=2,
    options=dict(
        down_blocks=[1, 2], up_blocks=[2, 1], pool_factors=[2, 2], bottleneck_layers=2, growth_rate=4, unshuffle=2
    ),
)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


class Killed(Exception):
    pass


def killed_after(steps):
    def progress(row=None, *, step=0, **_):
        if step == steps:
            raise Killed

    return progress


def test_training_that_was_killed_goes_on_exactly(tmp_path):
    whole = nets.train(nets.Recipe(**SMALL, steps=7), tmp_path / "whole.safetensors", every=2, images=1)
    path = tmp_path / "killed.safetensors"
    for step in (3, 6):  # after its last state, of step 2 and 4: what was done since is done again
        with pytest.raises(Killed):
            nets.train(nets.Recipe(**SMALL, steps=7), path, every=2, images=1, progress=killed_after(step))
        assert not path.exists()
    (tmp_path / "killed.safetensors.state.partial").write_bytes(b"torn")
    again = nets.train(nets.Recipe(**SMALL, steps=7), path, every=2, images=1)
    assert same(again, whole)
    timeless = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in n.provenance["history"]] for n in (again, whole)
    ]
    assert timeless[0] == timeless[1] and [row["step"] for row in timeless[0]] == [2, 4, 6]
    with pytest.raises(ValueError, match="delete the file to begin anew"):
        nets.train(nets.Recipe(**SMALL | {"seed": 1}, steps=7), path)


@pytest.mark.slow
def test_training_learns(tmp_path):
    recipe = nets.Recipe(**SMALL | {"batch": 8, "jitter": 0.0, "accumulate": 2}, steps=60, lr=5e-3)
    losses = []
    nets.train(
        recipe, tmp_path / "net.safetensors", every=1000, images=4, progress=lambda **s: losses.append(s["loss"])
    )
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:3])


def test_checkpoints(tmp_path):
    mask = kspike.radial_mask((32, 32), lines=9)
    network = {"kind": "tirafl", "subnet": "UNet", "options": {"base_features": 2}}
    net = filled(nets.build(mask, **network))
    path = tmp_path / "net.safetensors"
    nets.save(net, path, network, {"note": "a test"})
    found = nets.load(path)
    assert found.provenance["note"] == "a test" and not found.training
    np.testing.assert_array_equal(found.mask, mask)
    for name, t in net.state_dict().items():  # half precision has 11 bits, the statistics all of them
        bits = 0 if "running" in name else 2.0**-11
        torch.testing.assert_close(found.state_dict()[name], t, rtol=bits, atol=bits * 1e-2)
    with pytest.raises(ValueError, match="checkpoint: expected a file or one of"):
        nets.load("tira-127")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="expected a safetensors file"):
        nets.load(path)
    with pytest.raises(ValueError, match="kind, subnet: expected one of tira, tirafl"):
        nets.build(mask, "tyra")


def test_the_command_trains_and_goes_on(tmp_path, capsys):
    from kspike.cli import main

    common = ["--size", "32", "--lines", "9", "--options", json.dumps(SMALL["options"]), "--every", "1", "--quiet"]
    assert main(["train", str(tmp_path / "net"), "--steps", "2", *common]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["step"] for line in shown[:2]] == [1, 2] and shown[-1].endswith("net.safetensors")
    assert (tmp_path / "net.png").stat().st_size > 5000
    assert main(["train", str(tmp_path / "net"), "--steps", "3", *common]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["step"] == 3
    assert main(["train", str(tmp_path / "net"), "--steps", "3", "--lr", "1", *common]) == 2
    assert "delete the file to begin anew" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "none" / "net"), "--steps", "3"]) == 2
    assert "expected a folder that exists" in capsys.readouterr().err


@pytest.mark.parametrize("name", nets.bundled())
def test_bundled_networks_do_what_their_header_says(name):
    """The gain over zero-filling on the first four of the images that it was validated on."""
    net = nets.load(name)
    assert net.provenance["network"]["kind"] == name.partition("-")[0]
    found = nets.evaluate(net, 4)
    assert found["gain_clean"] > 7 and found["gain_noisy"] > 6
    stated = net.provenance["validation"]
    assert found["gain_clean"] == pytest.approx(stated["gain_clean"], abs=2)


def test_what_is_no_recipe():
    with pytest.raises(TypeError, match="steps, minutes: expected exactly one"):
        nets.Recipe()
    with pytest.raises(ValueError, match="loss: expected one of mse, relative"):
        nets.Recipe(steps=1, loss="l1")
    with pytest.raises(ValueError, match="lr: expected a number"):
        nets.Recipe(steps=1, lr=-1)


def test_training_images_have_the_law_of_the_phantoms():
    """Mean, deviation and share of empty pixels of 400 images of each kind, each within five standard errors."""
    ours = drawn(400, (32, 32), seed=3).numpy()
    theirs = kspike.ellipses((32, 32), seed=3, count=400)
    assert ours.min() == 0 and ours.dtype == np.float32 and (ours.max((1, 2)) == 1).all()
    for measure in (lambda x: x.mean((1, 2)), lambda x: x.std((1, 2)), lambda x: (x == 0).mean((1, 2))):
        a, b = measure(ours), measure(theirs)
        assert abs(a.mean() - b.mean()) < 5 * np.hypot(a.std(), b.std()) / 20
    first, again, other = (drawn(2, (32, 32), seed=s) for s in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)
