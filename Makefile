# `make demo` and `make test` need Python 3.10 or newer and nothing else.

PYTHON ?= python3
# The exporter's tests need torch; its CPU build is enough. Where your package index serves a CUDA
# build by default, point pip at the CPU one: make test PIP_EXTRA_INDEX_URL=...
TORCH ?= torch==2.13.0

# Processes that `make test` runs its tests in, one thread each; one may need 3 GB of memory.
JOBS ?= 2

DEMO := .venv-demo
DEV := .venv
GPU := .venv-gpu
SCALE := .venv-scale
TRITON := .venv-triton
WITH_DEV := PYTHON='$(CURDIR)/$(DEV)/bin/python'
PIP := pip install --quiet --disable-pip-version-check
PACKAGED := $(shell find runtime/hyperstyle_rt engines/faces engines/portraits -type f ! -name '*.pyc')

.PHONY: demo docs test test-tools test-engines test-official test-scale test-triton test-all test-slow
.PHONY: test-cpp test-gpu lint format clean

demo: $(DEMO)/installed
	$(DEMO)/bin/hyperstyle-rt invert examples/astronaut.jpg --coupled --force --out demo.png
	@echo "the result: $(CURDIR)/demo.png, beside the input: $(CURDIR)/demo.coupled.png"

# Whole files go to a process, the longest first (tests/conftest.py): the many short ones then fill
# what is left evenly.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(DEV)/bin/python -m pytest
IN_PROCESSES := -n $(JOBS) --dist loadfile --no-loadscope-reorder

# What is delivered, on small models: minutes.
test: $(DEV)/installed
	$(PYTEST) -m "not slow and not gpu and not engines and not official" $(IN_PROCESSES) \
	    --ignore tests/tools --ignore tests/runtime/scale tests

# What measures, trains and draws.
test-tools: $(DEV)/installed
	$(PYTEST) -m "not slow" $(IN_PROCESSES) tests/tools

# Every graph through NVIDIA's parser and compiler, which need no GPU, and the large ones through
# OpenVINO.
test-engines: $(DEV)/installed
	$(PYTEST) -m "engines and not slow" -n $(JOBS) tests

# Networks of the official width against the numbers of the official code.
test-official: $(DEV)/installed
	$(PYTEST) -m "official and not slow" $(IN_PROCESSES) tests/export

# A Ray cluster of this machine, which is busy with itself: one process.
test-scale: $(SCALE)/installed
	$(SCALE)/bin/python -m pytest -m "not slow" tests/runtime/scale

# A Triton server of this machine: the one that pytriton carries, on Python 3.10 to 3.12.
test-triton: $(TRITON)/installed
	$(TRITON)/bin/python -m pytest -m "not slow" tests/runtime/scale/test_triton.py

# All of these, and the C library's: what CI runs.
test-all: test test-tools test-engines test-official test-scale test-triton test-cpp

# What takes minutes or gigabytes: official sizes, long training. One process.
test-slow: $(DEV)/installed $(SCALE)/installed $(TRITON)/installed
	$(DEV)/bin/python -m pytest -m "slow and not gpu" --ignore tests/runtime/scale tests
	$(SCALE)/bin/python -m pytest -m slow tests/runtime/scale
	$(TRITON)/bin/python -m pytest -m slow tests/runtime/scale/test_triton.py

# The C library: build, ctest, Python against C; then under sanitizers; then the fuzzers' corpus.
test-cpp: $(DEV)/installed
	$(WITH_DEV) tests/cpp/run.sh
	$(WITH_DEV) HSRT_SANITIZE=address,undefined tests/cpp/run.sh
	$(WITH_DEV) HSRT_SANITIZE=thread tests/cpp/run.sh
	$(WITH_DEV) runtime/cpp/fuzz/run.sh 0

# On a machine with an NVIDIA GPU; in an environment of its own, as onnxruntime and onnxruntime-gpu
# overwrite each other.
test-gpu: $(GPU)/installed
	$(GPU)/bin/python -m pytest -m gpu tests/gpu

lint: $(DEV)/installed
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports

# The site, from docs/, the docstrings and the C header: build/site/index.html.
docs: $(DEV)/installed
	$(DEV)/bin/mkdocs build --quiet

format: $(DEV)/installed
	$(DEV)/bin/ruff check --fix .
	$(DEV)/bin/ruff format .

# Only what a user gets: the wheel, no torch, no onnx.
$(DEMO)/installed: pyproject.toml $(PACKAGED)
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/$(PIP) '.[cpu]'
	@touch $@

$(DEV)/installed: pyproject.toml
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/$(PIP) $(TORCH)
	$(DEV)/bin/$(PIP) --editable '.[cpu,export,dev]'
	@touch $@

$(GPU)/installed: pyproject.toml
	$(PYTHON) -m venv $(GPU)
	$(GPU)/bin/$(PIP) --editable '.[gpu,export,dev]'
	@touch $@

# Ray and Triton apart: pyarrow needs NumPy 2 and pytriton NumPy 1.
$(SCALE)/installed: pyproject.toml
	$(PYTHON) -m venv $(SCALE)
	$(SCALE)/bin/$(PIP) --editable '.[cpu,ray-serve]' httpx pytest
	@touch $@

$(TRITON)/installed: pyproject.toml
	$(PYTHON) -m venv $(TRITON)
	$(TRITON)/bin/$(PIP) --editable '.[cpu,triton]' httpx onnx pytest
	@touch $@

clean:
	rm -rf $(DEMO) $(DEV) $(GPU) $(SCALE) $(TRITON) demo.png demo.coupled.png build dist
