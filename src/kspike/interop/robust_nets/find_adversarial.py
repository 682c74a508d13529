# SPDX-License-Identifier: MIT
"""`find_adversarial` of robust-nets: projected ascent on measurements, and the grid over noise levels.

The closures are evaluated as often as the numbers need: not once more per step for a progress bar.
"""

from __future__ import annotations

import torch
from tqdm import tqdm

from kspike.interop.robust_nets.operators import l2_error

__all__ = [
    "PGD",
    "PAdam",
    "err_measure_l2",
    "grid_attack",
    "identity",
    "normalized_atanh",
    "normalized_tanh",
    "untargeted_attack",
]


def identity(x):
    """X itself."""
    return x


def normalized_tanh(x, eps=1e-6):
    """(tanh(x) + 1) / 2."""
    return (torch.tanh(x) + 1) / 2


def normalized_atanh(x, eps=1e-6):
    """The inverse of `normalized_tanh`, kept off the ends of [0, 1] by eps."""
    x = 2 * x * (1 - eps) - 1
    return 0.5 * torch.log((1 + x) / (1 - x))


def PGD(
    loss,
    t_in,
    projs=None,
    iter=50,
    stepsize=1e-2,
    maxls=50,
    ls_fac=0.1,
    ls_severity=1.0,
    silent=False,
):
    """Projected gradient descent on loss(t_in) with a backtracking line search; t_in is changed and returned.

    projs : projections, one after the other; maxls : most steps of a line search, 1 for none; ls_fac : what a step is
    shortened by; ls_severity : how much descent is asked for
    """
    bar = tqdm(range(iter), desc="PGD iter", disable=silent)
    for _ in bar:
        _clear(t_in)
        before = loss(t_in)
        before.backward()
        with torch.no_grad():
            p = -t_in.grad
            for tries in range(1, maxls + 1):
                there = _projected(t_in + stepsize * p, projs)
                move, after = there - t_in, loss(there)
                enough = before - ls_severity * (p * move).mean() + move.pow(2).mean() / (2 * stepsize)
                if enough > after or tries == maxls:
                    break
                stepsize *= ls_fac
            t_in.copy_(_projected(t_in + stepsize * p, projs))
        bar.set_postfix(loss=float(after), ls_steps=tries, stepsize=stepsize)
        if tries < maxls and maxls > 1:
            stepsize /= ls_fac
        if stepsize < 1e-18:
            break
    return t_in


def PAdam(loss, t_in, projs=None, iter=50, stepsize=1e-2, silent=False):
    """Projected Adam (eps 1e-5) on loss(t_in); t_in is changed and returned.

    The first gradient is taken where t_in comes in, inside the ball or not: projs, one after the other, follow a step.
    """
    optimizer = torch.optim.Adam((t_in,), lr=stepsize, eps=1e-5)
    bar = tqdm(range(iter), desc="PAdam iter", disable=silent)
    for _ in bar:
        _clear(t_in)
        before = loss(t_in)
        before.backward()
        optimizer.step()
        with torch.no_grad():
            t_in.copy_(_projected(t_in, projs))
        if not silent:
            bar.set_postfix(pre_loss=before.item())
    return t_in


def untargeted_attack(
    func,
    t_in_adv,
    t_in_ref,
    t_out_ref=None,
    domain_dist=None,
    mixed_dist=None,
    codomain_dist=torch.nn.MSELoss(),  # noqa: B008  the scripts' default
    weights=(1.0, 1.0, 1.0),
    optimizer=PGD,
    transform=identity,
    inverse_transform=identity,
    **kwargs,
):
    """Minimise w0 domain(x, ref) - w1 codomain(f(x), f(ref)) + w2 mixed(x, ref, f(x), f(ref)) from x = t_in_adv.

    t_in_adv is changed; the transform of what was found is returned. A distance that is None is left out; kwargs go to
    the optimizer, in whose variable x = transform(variable).
    """
    t_in_adv.data = inverse_transform(t_in_adv.data)
    if t_out_ref is None:
        t_out_ref = func(t_in_ref)

    def loss(t_in):
        x = transform(t_in)
        t_out = func(x)
        value = -weights[1] * codomain_dist(t_out, t_out_ref)
        if domain_dist is not None:
            value = value + weights[0] * domain_dist(x, t_in_ref)
        if mixed_dist is not None:
            value = value + weights[2] * mixed_dist(x, t_in_ref, t_out, t_out_ref)
        return value

    return transform(optimizer(loss, t_in_adv, **kwargs))


def err_measure_l2(x1, x2):
    """The relative l2 error of each image."""
    return l2_error(x1, x2, relative=True, squared=False)[1].squeeze()


def grid_attack(method, noise_rel, X_0, Y_0, store_data=False, keep_init=0, err_measure=err_measure_l2):
    """Attack `method` at each relative noise level, from the highest down; (errors attacked, errors of noise, ...).

    method : .attacker(X_0, level, yadv_init=) -> (Y_adv, Y_ref, Y_0) and .reconstr(Y, level), .name
    keep_init : how many of the worst perturbations of a level start the next
    store_data : also return X_adv, X_ref, Y_adv, Y_ref, each with one entry a level, on the CPU
    """
    levels = len(noise_rel)
    errors = [torch.zeros(levels, len(X_0)) for _ in range(2)]
    images, samples = ([torch.zeros(levels, *v.shape) for _ in range(2)] if store_data else [] for v in (X_0, Y_0))
    start = None
    for k in tqdm(reversed(range(levels)), desc=str(method.name), total=levels):
        attacked, noisy, _ = method.attacker(X_0, noise_rel[k], yadv_init=start)
        for i, y in enumerate((attacked, noisy)):
            x = method.reconstr(y, noise_rel[k])
            errors[i][k] = err_measure(x, X_0)
            if store_data:
                images[i][k], samples[i][k] = x.cpu(), y.cpu()
        if keep_init:
            start = attacked[errors[0][k].argsort(descending=True)[:keep_init]]
    return (*errors, *images, *samples)


def _clear(t_in):
    if t_in.grad is not None:
        t_in.grad.detach_()
        t_in.grad.zero_()


def _projected(t_in, projs):
    for proj in projs or ():
        t_in = proj(t_in)
    return t_in
