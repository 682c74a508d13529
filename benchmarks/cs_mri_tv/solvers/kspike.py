# SPDX-License-Identifier: MIT
"""kspike's over-relaxed ADMM, as it comes."""

from benchopt import BaseSolver

from kspike import TVSolver


class Solver(BaseSolver):
    """`dtype` sets the precision of the solve; the objective is evaluated in double either way."""

    name = "kspike"
    parameters = {"dtype": ["complex64", "complex128"], "threads": [1]}
    requirements = ["pip::kspike"]

    def set_objective(self, mask, y, lam):
        """Make the plan."""
        self.tv = TVSolver(mask, lam, dtype=self.dtype, threads=self.threads)
        self.y = y.astype(self.dtype)

    def run(self, iterations):
        """So many iterations from the start; none give the zero-filled image."""
        self.x = self.tv.solve(self.y, iterations, 0).x if iterations else self.tv.A.adjoint(self.y)

    def get_result(self):
        """The image."""
        return {"x": self.x}
