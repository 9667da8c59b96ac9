#!/usr/bin/env bash
# What to run first on a machine with a GPU: builds, the tests on the device, then figures for benchmarks/results/.
#
#   tools/gpu_check.sh [--quick] [--tests] [--results FOLDER]
#
# Takes the python3, torch, Triton and nvcc that are installed (PYTHON=... for another interpreter), and no network.
# Ends within 9 minutes: figures that the time does not reach are left out, and the page says which. --quick builds
# nothing, runs the tests of whole models, measures the smallest shape, and takes less than 3; --tests measures
# nothing. The exit status is 0 when all tests passed and no measurement failed.
set -euo pipefail
cd "$(dirname "$0")/.."

quick=() results=benchmarks/results limit=540 for_tests=240 figures=yes
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=(--quick) limit=180 for_tests=110 ;;
    --tests) figures= ;;
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

tests() {  # pytest on the device; in several processes where there is pytest-xdist, as most of the time goes to compiling
  local several=()
  if "$python" -c 'import xdist' 2> /dev/null; then several=(-n 6); fi
  local ended=0
  timeout $for_tests "$python" -m pytest -q -p no:cacheprovider "${several[@]}" "$@" || ended=$?
  if [ $ended = 124 ]; then echo "   cut off after $for_tests s: run the rest with $python -m pytest $*"; fi
  return $ended
}

status=0
if [ ${#quick[@]} -gt 0 ]; then
  echo "== whole models, on the GPU"
  tests tests/ops/triton/test_whole_model.py tests/engine/test_decode_graphs.py || status=1
else
  echo "== native code"
  MIXTRALKIT_CUDA=1 timeout 120 "$python" setup.py -q build_ext --inplace || status=1
  for why in mixtralkit/_*.why_not; do
    if [ -e "$why" ]; then echo "left out: $why: $(cat "$why")"; fi
  done
  echo "== the tests of what runs on a GPU, there"
  tests tests/ops/triton tests/ops/test_quantize.py tests/ops/test_sample.py tests/engine/test_decode_graphs.py tests/engine/test_device_sampling.py \
    tests/checkpoint/test_loading_to_gpu.py tests/moe/dispatch/test_nccl_on_gpu.py tests/moe/dispatch/test_cuda_peer.py tests/moe/dispatch/test_cuda_peer_device.py \
    --ignore-glob='*/test_compile_*' || status=1
  if command -v compute-sanitizer > /dev/null; then
    echo "== the gate's tests again, every access to memory checked"
    timeout 60 compute-sanitizer --tool memcheck --error-exitcode 1 \
      "$python" -m pytest -q -p no:cacheprovider tests/ops/triton/test_gate_kernels.py || status=1
  else
    echo "== no compute-sanitizer on the PATH: accesses to memory are not checked"
  fi
fi

if [ "$figures" ]; then
  echo "== figures"
  "$python" -m benchmarks.gpu --results "$results" --seconds $((limit - SECONDS)) "${quick[@]}" || status=1
fi
exit $status
