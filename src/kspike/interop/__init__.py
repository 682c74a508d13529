# SPDX-License-Identifier: MIT
"""kspike inside other libraries: one module a neighbour, each imported only when asked for.

    kspike.interop.arrays       arrays of torch, JAX, CuPy ... through DLPack
    kspike.interop.scipy        scipy.sparse.linalg.LinearOperator
    kspike.interop.pylops       pylops.LinearOperator
    kspike.interop.sigpy        sigpy.linop.Linop
    kspike.interop.deepinv      deepinv.physics.LinearPhysics
    kspike.interop.mrpro        mrpro.operators.LinearOperator
    kspike.interop.robust_nets  the classes of robust-nets and of the code built on it

docs/interop.md says which functional each neighbour solves by default, and how to make it kspike's.
"""
