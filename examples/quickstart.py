# SPDX-License-Identifier: MIT
"""The example of the README: attack the total variation reconstruction of an ellipse image at 4 x 4 locations."""

import kspike

mask = kspike.radial_mask((256, 256), lines=40)  # bool (rows, cols), zero frequency in the middle
x = kspike.ellipses((256, 256), seed=0)  # float32 in [0, 1]
tv = kspike.TVSolver(mask, lam=5.6e-3)  # recTV(y) = argmin 1/2 ||A x - y||^2 + lam ||D x||_1
y = tv.A(x)  # the samples, complex64 (m,)

found = kspike.attack(tv, y, noise=0.04, grid=(4, 4))  # ||e|| = 0.04 ||y||
print(found)

plain = kspike.spike(tv.A, found.location, found.eta)  # the baseline: a scaled spike
artifact = tv(y + plain) - found.clean
print(f"plain spike {abs(artifact).max():.2f}, attack {found.artifact_max:.2f}")
