"""The C++ and CUDA sources, shipped inside the wheel so that CuPy can compile the kernels at run time."""
