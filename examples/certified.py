# SPDX-License-Identifier: MIT
"""Numbers with a proof: how far a reconstruction is from optimal, and how strong any attack on a pixel can be."""

import kspike

mask = kspike.radial_mask((128, 128), lines=20)
x = kspike.ellipses((128, 128), seed=0)
tv = kspike.TVSolver(mask, lam=5.6e-3)
y = tv.A(x)

for iterations in (50, 200, 800):
    info = tv.solve(y, max_iterations=iterations, tol=0)
    print(f"{iterations} iterations: at most {info.certificate.relative:.1e} of the objective is left to gain")

pixel = (56, 56)
found = kspike.attack(tv, y, noise=0.04, at=[pixel], radius=0, preset="strong")
bound = kspike.certify(tv, y, found.eta, pixel, phase=-1, pairs=800)
reached = -found.artifact[pixel].real
print(f"the attack lowers pixel {pixel} by {reached:.2f}; no attack of this size can by more than {bound.bound:.2f}")
