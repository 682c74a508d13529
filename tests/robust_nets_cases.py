# SPDX-License-Identifier: MIT
"""What is asked of the robust-nets names, of the originals (recorded once in data/robust_nets.npz) and of ours alike.

Each function takes the modules of a family and yields (name, array); everything runs in float64, from seeded inputs.
"""

import types

import numpy as np
import torch

SMALL, SIGNS = 100, 6


def numbers(seed, *shape):
    """Seeded normal numbers, the same on every machine."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def kept(x):
    """What is kept of a result: all of it, or of a large one its norm and inner products with a few seeded signs."""
    x = np.asarray(x.detach() if torch.is_tensor(x) else x)
    if x.size <= SMALL or x.dtype.kind != "f":
        return x
    signs = np.random.default_rng(0).integers(0, 2, (SIGNS, x.size)) * 2 - 1
    return np.concatenate([[np.linalg.norm(x)], signs @ x.ravel()])


def mask(ops, n=16, lines=5):
    """The mask of the cases as the scripts make it, (1, 1, n, n)."""
    return torch.as_tensor(np.asarray(ops.RadialMaskFunc((n, n), lines).mask))[None, None]


def helpers(ops):
    """The small functions."""
    x, ref = numbers(1, 3, 2, 8, 6), numbers(2, 3, 2, 8, 6)
    for name in ("relative", "squared", "use_magnitude"):
        flag = {name: name != "use_magnitude"}
        for k, value in enumerate(ops.l2_error(x, ref, **flag)):
            yield f"l2_error {name} {k}", value
    yield "l2_error unbatched", ops.l2_error(x[0], ref[0])[0]
    yield "noise_gaussian", ops.noise_gaussian(numbers(3, 2, 2, 9), 0.3, n_seed=1, t_seed=4)
    yield "to_complex", ops.to_complex(x[:, :1])
    yield "im2vec", ops.im2vec(x)
    yield "vec2im", ops.vec2im(numbers(5, 3, 48), (8, 6))
    for dim, num in ((-1, 1), (-2, 1), (-1, 5), (-2, 7)):
        yield f"circshift {dim} {num}", ops.circshift(x, dim, num)
    yield "shrink", ops.shrink(x, 0.4)
    yield "shrink edge", ops.shrink(torch.tensor([-2, -0.5, -0.25, 0, 0.25, 0.5, 2, np.inf, -np.inf]), 0.5)
    for radius in (torch.tensor(0.0), torch.tensor([2.0]), torch.tensor([[[1.0]], [[5.0]], [[100.0]]])):
        yield f"proj_l2_ball {tuple(radius.shape)}", ops.proj_l2_ball(x[:, 0], ref[:, 0], radius)


def pairs(ops):
    """The small functions that only robust-nets has."""
    x, y = numbers(6, 3, 8, 6, 2), numbers(7, 3, 8, 6, 2)
    yield "mult_complex", ops.mult_complex(x, y)
    yield "div_complex", ops.div_complex(x, y)
    yield "conj_complex", ops.conj_complex(x)
    channels = numbers(8, 3, 4, 8, 6)
    yield "prep_fft_channel", ops.prep_fft_channel(channels)
    yield "unprep_fft_channel", ops.unprep_fft_channel(ops.prep_fft_channel(channels))
    yield "rotate_real", ops.rotate_real(channels[:, :2])
    for k, value in enumerate(ops.l2_error_meas(x[..., 0, :], y[..., 0, :], relative=True)):
        yield f"l2_error_meas {k}", value
    yield "noise_poisson", ops.noise_poisson(numbers(9, 2, 2, 9).abs(), 3.0, t_seed=5)


def operators(ops, sizes=(16, 15), inverter="LearnableInverter"):
    """Transforms, differences, and the layers that are matrices."""
    for n in sizes:
        sampled, x = mask(ops, n), numbers(10, 3, 2, n, n)
        A, W = ops.Fourier(sampled), ops.TVAnalysisPeriodic((n, n))
        y, kernel = A(x), W.get_fourier_kernel()
        yield f"m {n}", torch.tensor(A.m)
        yield f"A {n}", y
        yield f"A unbatched {n}", A(x[0])
        yield f"A* {n}", A.adj(numbers(11, *y.shape))
        yield f"tikh {n}", A.tikh(x, kernel, 0.3)
        yield f"W {n}", W(x)
        yield f"W* {n}", W.adj(numbers(12, 3, 2, 2 * n * n))
        yield f"kernel {n}", torch.view_as_real(kernel) if kernel.is_complex() else kernel
        for learnable in (False, True):
            torch.manual_seed(6)
            layer = getattr(ops, inverter)((n, n), sampled, learnable=learnable)
            yield f"{inverter} {learnable} {n}", layer(y)
        matrix = ops.Fourier_matrix(sampled)
        yield f"matrix {n}", matrix(x)
        yield f"matrix* {n}", matrix.adj(y)


def solves(ops, rec):
    """ADMM from several starts, its derivative, the variant by conjugate gradients, the search over a grid."""
    n = 16
    A, W = ops.Fourier(mask(ops)), ops.TVAnalysisPeriodic((n, n))
    x = numbers(13, 2, 2, n, n).cumsum(-1)
    y = A(x)
    zero = torch.zeros_like(W(x))
    for iterations in (0, 1, 2, 40):
        for start, z0 in (("A*y", W(A.adj(y))), ("0", zero)):
            found = rec.admm_l1_rec_diag(y, A, W, A.adj(y), z0, 0.05, 0.3, iter=iterations, silent=True)
            for part, value in zip("xz", found, strict=True):
                yield f"admm {iterations} {start} {part}", value
    for iterations in (1, 25):
        free, z0 = y.clone().requires_grad_(), W(A.adj(y)).requires_grad_()
        found, _ = rec.admm_l1_rec_diag(free, A, W, x, z0, 0.05, 0.3, iter=iterations, silent=True)
        gradients = torch.autograd.grad((found * numbers(14, *found.shape)).sum(), (free, z0))
        for part, value in zip(("y", "z0"), gradients, strict=True):
            yield f"admm gradient {iterations} {part}", value
    found = rec.admm_l1_rec(y, A, W, A.adj(y), zero, 0.05, 0.3, iter=3, silent=True)
    yield "admm by cg x", found[0]
    parameters, least, errors = rec.grid_search(
        x,
        y,
        lambda y, lam, rho: rec.admm_l1_rec_diag(y, A, W, x, zero, lam, rho, iter=5, silent=True)[0],
        {"lam": np.array([1e-3, 1e-1]), "rho": np.array([0.1, 1.0, 10.0])},
    )
    yield (
        "grid_search",
        torch.cat([torch.tensor([parameters["lam"], parameters["rho"], float(least)]), errors.flatten()]),
    )


def attacks(ops, rec, adv):
    """The optimisers on a quadratic and on ADMM, the attack, the grid over noise levels."""
    target, centre = numbers(15, 1, 2, 20), numbers(16, 1, 2, 20)

    def loss(t):
        return ((t - target) ** 2).mean()

    def ball(t):
        return ops.proj_l2_ball(t, centre, torch.tensor(1.5))

    for name, options in (("PGD", {"maxls": 6}), ("PGD", {"maxls": 1, "stepsize": 1.0}), ("PAdam", {"stepsize": 0.2})):
        for projs in (None, [ball]):
            t = centre.clone().requires_grad_()
            found = getattr(adv, name)(loss, t, projs=projs, iter=12, silent=True, **options)
            yield f"{name} {options} {projs is not None}", found
    n = 16
    A, W = ops.Fourier(mask(ops)), ops.TVAnalysisPeriodic((n, n))
    x = numbers(17, 2, 2, n, n).cumsum(-1)
    y = A(x)
    level = 0.05 * y.norm(dim=(-2, -1), keepdim=True)

    def reconstruct(y, noise_rel=None):
        return rec.admm_l1_rec_diag(y, A, W, x, W(A.adj(y)), 0.05, 0.3, iter=10, silent=True)[0]

    def attacker(x, noise_rel, yadv_init=None):
        start = y + 3 * level * numbers(18, *y.shape) / np.sqrt(y[0].numel())
        if yadv_init is not None:
            start[: len(yadv_init)] = yadv_init
        found = adv.untargeted_attack(
            reconstruct,
            start.requires_grad_(),
            y,
            t_out_ref=x,
            codomain_dist=torch.nn.MSELoss(reduction="sum"),
            mixed_dist=lambda a, b, fa, fb: ((a - b) ** 2).sum(),
            optimizer=adv.PAdam,
            projs=[lambda v: ops.proj_l2_ball(v, y, level)],
            iter=4,
            stepsize=0.5,
            silent=True,
        )
        return found.detach(), y + 0.01, y

    method = types.SimpleNamespace(name="TV", attacker=attacker, reconstr=reconstruct)
    for keep in (0, 1):
        names = ("X_adv_err", "X_ref_err", "X_adv", "X_ref", "Y_adv", "Y_ref")
        found = adv.grid_attack(method, torch.tensor([0.02, 0.05]), x, y, store_data=True, keep_init=keep)
        for name, value in zip(names, found, strict=True):
            yield f"grid_attack {keep} {name}", value
    yield "normalized_tanh", adv.normalized_tanh(target)
    yield "normalized_atanh", adv.normalized_atanh(adv.normalized_tanh(target))


def localized(grid, A):
    """localadvmri, where `grid` has its names and A is its OpA, on 16 x 16."""
    n = 16
    x = numbers(19, 2, 2, n, n).cumsum(-1) / 8
    y = A(x)
    yield "get_grid", grid.get_grid((2, 4), (n, 2 * n))
    yield "reconstruct_full", grid.reconstruct_full(y, 0.05, iter=30)[0]
    other = x + 0.1 * numbers(20, *x.shape)
    yield "LocalLoss", grid.LocalLoss((n, n), (3.0, 9.0), 5)(other, x)
    yield "locmask", grid.LocalLoss((n, n), (3.0, 9.0), 10).locmask
    torch.manual_seed(7)
    yield "perturb", grid.perturb(y, 0.05, iter=5)
    torch.manual_seed(8)
    attacked = grid.spatial_grid_attack(y, 0.05, width=6, n_locs=(2, 3), iter=4)
    yield "spatial_grid_attack", attacked
    yield "spike_attack", grid.spike_attack(y, 0.05, n_locs=(2, 3))
    artifacts = grid.reconstruct_full(attacked, 0.05, iter=30)[0] - x
    for p in (np.inf, 2):
        i, j, k = grid.select_loc(artifacts, p)
        yield f"select_loc {p}", torch.stack([i, j, torch.tensor(list(k))])
    yield "get_ratios", grid.get_ratios(artifacts, A.adj(attacked - y))
    yield "reconstruct_batch_dims", grid.reconstruct_batch_dims(attacked, lambda v: A.adj(v), batch_size=5)


def shared(ops, rec, adv, inputs):
    """The acceptance inputs of the study, at the sizes people use."""
    given = {name: torch.from_numpy(np.array(inputs[name])) for name in inputs}
    given = {name: v.double() if v.is_floating_point() else v for name, v in given.items()}
    W = {n: ops.TVAnalysisPeriodic((n, n)) for n in (64, 128, 256)}
    A = {n: ops.Fourier(given[f"mask{n}"][None, None]) for n in (64, 128, 256)}
    oblong = ops.Fourier(given["mask96x128"][None, None])
    yield "A 96x128", oblong(given["img96x128"])
    yield "A* 96x128", oblong.adj(oblong(given["img96x128"]))
    for n, name in ((64, "imgs64"), (128, "imgs128"), (128, "imgc128"), (256, "img256")):
        x = given[name]
        y = A[n](x)
        yield f"A {name}", y
        yield f"A*A {name}", A[n].adj(y)
        found = rec.admm_l1_rec_diag(y, A[n], W[n], A[n].adj(y), W[n](A[n].adj(y)), 1e-3, 0.05, iter=30, silent=True)
        for part, value in zip("xz", found, strict=True):
            yield f"admm {name} {part}", value
    for n, images, start in ((64, "imgs64", "e0_64x3"), (128, "img128", "e0_128")):
        x = given[images]
        y = A[n](x)
        level = 0.02 * y.norm(dim=(-2, -1), keepdim=True)
        x0, z0 = rec.admm_l1_rec_diag(y, A[n], W[n], x, W[n](A[n].adj(y)), 1e-3, 0.05, iter=40, silent=True)

        def reconstruct(v, n=n, x0=x0, z0=z0):
            return rec.admm_l1_rec_diag(v, A[n], W[n], x0, z0, 1e-3, 0.05, iter=20, silent=True)[0]

        found = adv.untargeted_attack(
            reconstruct,
            (y + given[start]).requires_grad_(),
            y,
            t_out_ref=x0,
            codomain_dist=torch.nn.MSELoss(reduction="sum"),
            optimizer=adv.PAdam,
            projs=[lambda v, y=y, level=level: ops.proj_l2_ball(v, y, level)],
            iter=3,
            stepsize=0.5,
            silent=True,
        )
        yield f"attack {images} e", found - y
        yield f"attack {images} x", reconstruct(found)
    for name in ("radius3", "radius2"):
        e = given["e0_64x3"]
        yield f"proj_l2_ball {name}", ops.proj_l2_ball(e, torch.zeros_like(e), given[name])
    yield "atanh", adv.normalized_atanh(given["t01"])
