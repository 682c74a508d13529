# SPDX-License-Identifier: MIT
"""The classes and functions that four public code families share, on kspike's engines.

    from kspike.interop import robust_nets

    robust_nets.install()                       # at the top of a script, whose import lines stay as they are
    from operators import Fourier, TVAnalysisPeriodic
    from reconstruction_methods import admm_l1_rec_diag

or import the names from here. Needs torch and tqdm. Signatures, shapes and numbers are those of the originals, which
run on no torch after 1.7; docs/interop.md says what was mended, and how much faster the scripts are.
"""

from __future__ import annotations

import sys
import types

from kspike.interop.robust_nets import (
    cg,
    find_adversarial,
    learnable,
    localized,
    operators,
    reconstruction_methods,
    troublesome_kernel,
)
from kspike.interop.robust_nets.cg import CGInverterLayer
from kspike.interop.robust_nets.find_adversarial import *  # noqa: F403
from kspike.interop.robust_nets.learnable import *  # noqa: F403
from kspike.interop.robust_nets.localized import *  # noqa: F403
from kspike.interop.robust_nets.operators import *  # noqa: F403
from kspike.interop.robust_nets.reconstruction_methods import *  # noqa: F403

__all__ = ["FAMILIES", "CGInverterLayer", "install"]
for part in (operators, learnable, reconstruction_methods, find_adversarial, localized):
    __all__ += part.__all__

FAMILIES = {
    "robust-nets": {
        "operators": (operators, learnable, cg),
        "reconstruction_methods": (reconstruction_methods,),
        "find_adversarial": (find_adversarial,),
    },
    "troublesome_kernel": {
        "operators": (operators, cg, troublesome_kernel),
        "reconstruction_methods": (reconstruction_methods,),
        "find_adversarial": (find_adversarial,),
    },
    "troublesome_kernel_jfa": {"operators": (operators, cg, troublesome_kernel)},
}
FAMILIES["localadvmri"] = FAMILIES["robust-nets"]


def install(family="robust-nets", *, experiment=None):
    """Register the modules of a family under their old names, for `import operators` and the like to find.

    family : "robust-nets", "localadvmri", "troublesome_kernel" or "troublesome_kernel_jfa", whose own find_adversarial
        trains networks and stays
    experiment : a `GridAttack`, to stand for localadvmri's module config_grid_attack as well

    Raises ImportError if one of the names has been imported from elsewhere: install comes first.
    """
    if family not in FAMILIES:
        raise ValueError(f"family: expected one of {', '.join(FAMILIES)}, got {family!r}")
    modules = {name: _merged(name, parts) for name, parts in FAMILIES[family].items()}
    if experiment is not None:
        modules["config_grid_attack"] = _merged("config_grid_attack", (localized,))
        public = {name: getattr(experiment, name) for name in dir(experiment) if not name.startswith("_")}
        vars(modules["config_grid_attack"]).update(public)
    for name in modules:
        there = sys.modules.get(name)
        if there is not None and not hasattr(there, "__kspike__"):
            raise ImportError(f"{name} is imported already, {there!r}: call install() before the script's own imports")
    sys.modules.update(modules)


def _merged(name, parts):
    """A module with the public names of all parts, later ones over earlier ones."""
    module = types.ModuleType(name, parts[0].__doc__)
    module.__kspike__ = True
    for part in parts:
        vars(module).update({public: getattr(part, public) for public in part.__all__})
    return module
