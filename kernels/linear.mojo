"""Linear: y = x @ w.T, the operation in which a language model spends its time.

    y[m, n] = sum_k x[m, k] * w[n, k]                            x [M, K], w [N, K], y [M, N], float32 accumulation

CPU: `linear_cpu.mojo` (packed weights, docs/architecture.md). GPU: `linear_gpu.mojo` (row-major weights).
Decoding is one to a few dozen rows and bound by reading w once; prefill is many rows and bound by arithmetic.
"""
