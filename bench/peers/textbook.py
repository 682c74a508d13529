# SPDX-License-Identifier: MIT
"""Boyd's ADMM in array code as good as it gets: two FFTs an iteration, nothing shifted. The peer to beat."""

import itertools

import numpy as np

FUNCTIONAL = "separable"
LADDER = False
SETTINGS = tuple(
    {"rho": rho, "relax": relax}
    for relax, rho in itertools.product((1.9, 1.8, 1.95, 1.98, 1.0), (0.2, 0.15, 0.1, 0.07, 0.05, 0.3, 0.5, 0.7))
)


def numpy(problem, dtype, threads, rho, relax):
    """NumPy, with SciPy's transforms."""
    from scipy import fft

    data, mask, symbol = problem.corner(dtype)
    inverse = 1 / (mask + rho * symbol)
    t, real = problem.lam / rho, inverse.dtype
    options = {"norm": "ortho", "workers": threads, "overwrite_x": True}

    def run(iterations, look=None):
        z = np.zeros((2, problem.n, problem.n), dtype)
        u = z.copy()
        for k in range(1, iterations + 1):
            d0, d1 = z - u
            back = np.roll(d0, 1, 0) - d0 + (np.roll(d1, 1, 1) - d1)
            x = fft.ifft2((data + rho * fft.fft2(back, **options)) * inverse, **options)
            v = u + relax * np.stack([np.roll(x, -1, 0) - x, np.roll(x, -1, 1) - x]) + (1 - relax) * z
            u = np.clip(v.view(real), -t, t).view(dtype)
            z = v - u
            if look is not None and look(k, np.fft.fftshift(x)):
                break
        return np.fft.fftshift(x)

    return run


def torch(problem, dtype, threads, rho, relax):
    """PyTorch."""
    import torch

    torch.set_num_threads(threads)
    step, zero = _torch(problem, dtype, rho, relax)

    def run(iterations, look=None):
        z = u = zero
        with torch.inference_mode():
            for k in range(1, iterations + 1):
                x, z, u = step(z, u)
                if look is not None and look(k, np.fft.fftshift(x.numpy())):
                    break
        return np.fft.fftshift(x.numpy())

    return run


def _torch(problem, dtype, rho, relax, data=None):
    import torch

    given, mask, symbol = (torch.from_numpy(np.ascontiguousarray(v)) for v in problem.corner(dtype))
    data = given if data is None else data
    inverse, t = 1 / (mask + rho * symbol), problem.lam / rho
    roll = torch.roll

    def step(z, u):
        d0, d1 = z - u
        back = roll(d0, 1, 0) - d0 + (roll(d1, 1, 1) - d1)
        x = torch.fft.ifft2((data + rho * torch.fft.fft2(back, norm="ortho")) * inverse, norm="ortho")
        v = u + relax * torch.stack([roll(x, -1, 0) - x, roll(x, -1, 1) - x]) + (1 - relax) * z
        u = torch.view_as_complex(torch.view_as_real(v).clamp(-t, t))
        return x, v - u, u

    return step, torch.zeros((2, problem.n, problem.n), dtype=data.dtype)


def torch_gradient(problem, dtype, threads, iterations, rho):
    """Autograd through the loop."""
    import torch

    torch.set_num_threads(threads)
    mask = torch.from_numpy(np.fft.ifftshift(problem.mask))
    order = torch.from_numpy(np.fft.ifftshift(np.arange(mask.numel()).reshape(mask.shape))[mask.numpy()])
    where = torch.argsort(order)  # samples come in C order of the centred mask
    y0 = torch.from_numpy(problem.y.astype(dtype))
    g = None

    def run():
        nonlocal g
        y = y0.clone().requires_grad_()
        data = torch.zeros(mask.shape, dtype=y.dtype).masked_scatter(mask, y[torch.argsort(where)])
        if g is None:
            g = torch.fft.ifft2(data.detach(), norm="ortho")
        step, z = _torch(problem, dtype, rho, 1.0, data)
        u = z
        for _ in range(iterations):
            x, z, u = step(z, u)
        return torch.autograd.grad(x, y, g)[0].numpy()

    return run


CONTESTANTS = {"textbook NumPy": numpy, "textbook torch": torch}
GRADIENTS = {"textbook torch": torch_gradient}
