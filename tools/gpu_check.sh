#!/usr/bin/env bash
# What to run first on a machine with a GPU: the kernels' tests on the device, then figures for benchmarks/results/.
#
#   tools/gpu_check.sh [--quick] [--results FOLDER]
#
# Takes the python3, torch and Triton that are installed (PYTHON=... for another), and no network. --quick measures
# the smallest shape only. The exit status is 0 when all tests passed and all figures were written.
set -euo pipefail
cd "$(dirname "$0")/.."

quick=() results=benchmarks/results
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=(--quick) ;;
    --results) results=${2:?--results needs a folder}; shift ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) echo "$0: $1 is no option; --help tells which there are" >&2; exit 2 ;;
  esac
  shift
done
python=${PYTHON:-python3}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}

if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "$0: $python finds no torch that sees a GPU; PYTHON=... names another interpreter" >&2
  exit 1
fi

echo "== this machine"
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader || true
"$python" -c 'import torch, triton; print(f"torch {torch.__version__}, CUDA {torch.version.cuda}, Triton {triton.__version__}")'

echo "== the kernels' tests, on the GPU"
"$python" -m pytest -q -p no:cacheprovider tests/ops/triton tests/ops/test_quantize.py tests/checkpoint/test_loading_to_gpu.py

if command -v compute-sanitizer > /dev/null; then
  echo "== the gate's tests again, every access to memory checked"
  compute-sanitizer --tool memcheck --error-exitcode 1 "$python" -m pytest -q -p no:cacheprovider tests/ops/triton/test_gate_kernels.py
else
  echo "== no compute-sanitizer on the PATH: accesses to memory are not checked"
fi

echo "== figures"
"$python" -m benchmarks.gpu --results "$results" "${quick[@]}"
