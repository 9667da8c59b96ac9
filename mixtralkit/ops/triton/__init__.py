"""Kernels in Triton, for GPUs. Files of ops/ call them where ops/triton_kernels.py says that a call goes to them."""
