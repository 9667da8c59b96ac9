# `make demo` runs the main job, `make test` the tests, `make check` all that a change must pass. `make bench-strategies`
# times the strategies between namespaces that act as hosts (Linux, root, more than an hour). `make acceptance` runs real
# clients against the server (minutes, and some 4 GB of packages the first time).
# Everything is installed into .venv, once; stamp files there remember it.

PYTHON ?= python3
VENV ?= .venv
# Ranks of the demo.
NPROC ?= 2
# The address of a package index to take torch from besides pip's own, such as PyTorch's index of CPU builds.
TORCH_INDEX ?=
# Further arguments of every pip install.
PIP_ARGS ?=
# Arguments of the benchmark, such as BENCH_ARGS="--hosts 2 --rounds 5".
BENCH_ARGS ?=
# Arguments of the acceptance run, such as ACCEPTANCE_ARGS="--only openai,lm-eval".
ACCEPTANCE_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
       -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(PIP_ARGS)
BUILD_EXT := mkdir -p build && $(BIN)/python setup.py -q build_ext
DEMO := demo/shakespeare
SOURCES := $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')

.PHONY: demo test check lint types kernels bench-strategies acceptance clean
.DELETE_ON_ERROR:

demo: $(VENV)/.native
	$(BIN)/torchrun --standalone --nproc_per_node=$(NPROC) tools/example.py -m $(DEMO) -t $(DEMO)/tokenizer.model --temperature 0.8 --max-tokens 80

# With bytecode, whatever the environment says: hundreds of processes are started, and each would compile the package.
test: $(VENV)/.installed-test $(VENV)/.native
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q $(PYTEST_ARGS)

check: lint types kernels test

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Tests are checked too, but may leave out annotations.
types: $(VENV)/.installed-test
	$(BIN)/mypy --strict mixtralkit tools setup.py
	$(BIN)/mypy --strict acceptance
	$(BIN)/mypy tests

# The form of csrc/, and a compile of its own in which warnings and spilled registers are errors; needs a C++ compiler.
# What it has no tools for (nvcc, nccl.h) is left out, and a line says so.
kernels: $(VENV)/.installed-test
	$(BIN)/clang-format --dry-run --Werror $(SOURCES)
	@echo "== compiling csrc/ with -Werror"
	@$(BUILD_EXT) --strict --build-temp build/strict --build-lib build/strict > build/strict.log 2>&1 || { cat build/strict.log; exit 1; }
	@for note in build/strict/mixtralkit/_*.why_not; do [ ! -f $$note ] || echo "   No $$(basename $$note .why_not): $$(cat $$note)"; done
	@[ ! -f build/strict/cuda/resources.md ] || echo "   $$(head -1 build/strict/cuda/resources.md)"

bench-strategies: $(VENV)/.native
	$(BIN)/python -m benchmarks.strategies $(BENCH_ARGS)

# Each client has an environment of its own below build/acceptance; one of them needs torch, from the same index as here.
acceptance: $(VENV)/.native
	$(if $(TORCH_INDEX),PIP_EXTRA_INDEX_URL=$(TORCH_INDEX)) $(BIN)/python -m acceptance $(ACCEPTANCE_ARGS)

$(VENV)/.made:
	@echo "== making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made requirements.txt constraints.txt setup.py pyproject.toml
	@echo "== installing torch and the other requirements (minutes, the first time)"
	@command -v nvidia-smi >/dev/null || [ -n "$(TORCH_INDEX)" ] || echo "   No NVIDIA GPU here: if pip now fetches" \
	  "CUDA packages (gigabytes), stop it and say make TORCH_INDEX=... with the index of CPU builds that pytorch.org names."
	@$(PIP) -r requirements.txt
	@echo "== installing mixtralkit"
	@$(PIP) -e .
	@touch $@

# Installing has built the native kernels; here they are built again when csrc/ has changed. Without a compiler they are
# left out, and a line says why.
$(VENV)/.native: $(VENV)/.installed $(SOURCES) $(wildcard csrc/*.py) csrc/exports.map
	@echo "== building native kernels"
	@$(BUILD_EXT) --inplace > build/native.log 2>&1 || { cat build/native.log; exit 1; }
	@[ ! -f mixtralkit/_C.why_not ] || echo "   None: $$(cat mixtralkit/_C.why_not)"
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed requirements-test.txt
	@echo "== installing what the tests need"
	@$(PIP) -r requirements-test.txt
	@[ ! -f mixtralkit/_nccl.why_not ] || rm -f $(VENV)/.native  # they bring NCCL's header
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info mixtralkit/*.so mixtralkit/*.why_not
