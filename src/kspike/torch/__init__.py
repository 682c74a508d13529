# SPDX-License-Identifier: MIT
"""PyTorch: A, D and recTV as custom operators and layers, and any network as a reconstruction that can be attacked.

The operators `torch.ops.kspike.*` run in kspike's engines, on the tensors' own memory: one call for a masked transform,
one for a whole TV solve, one for its gradient. They have fake kernels, derivatives and batching rules, so that
`torch.compile(fullgraph=True)`, autograd and `torch.func.vmap` see through them. Tensors are complex, the leading
dimensions are a batch, and a tensor that is not contiguous is copied, as PyTorch's own operators do.

>>> A = kspike.torch.MaskedFourier(mask)
>>> layer = kspike.torch.TVLayer(mask, lam=5.6e-3)
>>> found = kspike.attack(kspike.torch.Reconstruction(net, A=kspike.MaskedFourier(mask)), y, noise=0.04)
"""

from kspike.torch.layers import Gradient, MaskedFourier, TVLayer, from_channels, to_channels
from kspike.torch.reconstruction import Reconstruction

__all__ = ["Gradient", "MaskedFourier", "Reconstruction", "TVLayer", "from_channels", "to_channels"]
