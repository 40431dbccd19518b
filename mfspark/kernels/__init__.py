"""The numerical kernels (numpy, numba, BLAS): nothing here imports pyspark."""
