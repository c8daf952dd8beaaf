"""MILI's kernels. `ops.mojo` registers them with MAX; every other file holds one component."""
