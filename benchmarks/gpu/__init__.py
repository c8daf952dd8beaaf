"""The GPU kernels checked and timed on a GPU."""
