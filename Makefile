# `make demo` runs the main job, `make test` the tests, `make check` all that a change must pass.
# Everything is installed into .venv, once; stamp files there remember it.

PYTHON ?= python3
VENV ?= .venv
# Ranks of the demo.
NPROC ?= 2
# The address of a package index to take torch from besides pip's own, such as PyTorch's index of CPU builds.
TORCH_INDEX ?=
# Further arguments of every pip install.
PIP_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
       -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(PIP_ARGS)
DEMO := demo/shakespeare

.PHONY: demo test check lint types kernels clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/torchrun --standalone --nproc_per_node=$(NPROC) tools/example.py -m $(DEMO) -t $(DEMO)/tokenizer.model --temperature 0.8 --max-tokens 80

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q $(PYTEST_ARGS)

check: lint types kernels test

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Tests are checked too, but may leave out annotations.
types: $(VENV)/.installed-test
	$(BIN)/mypy --strict mixtralkit tools setup.py
	$(BIN)/mypy tests

# csrc/ holds no source yet. The first one must bring its format check and its compile with it, so this fails until then.
kernels:
	@sources=$$(find csrc -type f ! -name '*.md'); \
	if [ -z "$$sources" ]; then echo "csrc/: no source yet, nothing to format or compile"; \
	else echo "csrc/ has sources that nothing checks; add clang-format and the compile here:" $$sources >&2; exit 1; fi

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

$(VENV)/.installed-test: $(VENV)/.installed requirements-test.txt
	@echo "== installing what the tests need"
	@$(PIP) -r requirements-test.txt
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
