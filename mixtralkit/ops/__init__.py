"""The operations that kernels may replace: one file an op, with its plain torch reference."""
