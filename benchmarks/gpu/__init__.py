"""What tools/gpu_check.sh measures on a GPU."""
