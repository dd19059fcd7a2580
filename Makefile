# Every target makes the environment it needs (.venv, Python 3.11 or newer) and is quick the second time.
#   make demo        a heatmap and a report of a photo, in out/demo
#   make test        the tests      make lint types docs doctest        make test-slow coverage coverage-methods truth bench bench-methods bench-lxt test-torch fuzz mxnet-env
# Another interpreter: make test PYTHON=/path/to/python3.12

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

new_enough = import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	"$$p" -c '$(new_enough)' >/dev/null 2>&1 && { echo "$$p"; exit; }; done; echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
JOBS ?= 2
# One thread a process: the tests run in several processes, and results do not then depend on the machine's cores.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST := $(ONE_THREAD) $(BIN)/python -m pytest
TORCH ?= 2.13.0
LXT_TRANSFORMERS ?= 4.57.1
MXNET_PYTHON ?= $(shell for p in python3.8 "$$HOME"/.pyenv/versions/3.8.*/bin/python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 8))' >/dev/null 2>&1 && { echo "$$p"; exit; }; done; echo python3.8)
FUZZ ?= 100000

.PHONY: help install demo test test-slow test-torch fuzz mxnet-env lint format types coverage coverage-methods truth bench bench-methods bench-lxt docs docs-serve doctest dist clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -4

$(VENV)/.made:
	@"$(PYTHON)" -c '$(new_enough)' || { echo "Pellucid needs Python 3.11 or newer; '$(PYTHON)' is not. Name another one: make PYTHON=..." >&2; exit 2; }
	"$(PYTHON)" -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing what the demonstration needs (a few minutes, once) ..."
	$(PIP) install -c constraints.txt -e '.[demo,vision,plot]'
	touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing what development needs (a few minutes, once) ..."
	$(PIP) install -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.demo

$(VENV)/.docs: $(VENV)/.dev
	$(PIP) install -c constraints.txt -e '.[docs]'
	touch $@

$(VENV)-torch/.made-$(TORCH): pyproject.toml constraints.txt
	"$(PYTHON)" -m venv --clear $(VENV)-torch
	grep -ivE '^(torch|torchvision|triton|cuda-.*|nvidia-.*)==' constraints.txt > $(VENV)-torch/constraints.txt
	$(VENV)-torch/bin/python -m pip --disable-pip-version-check --quiet install -c $(VENV)-torch/constraints.txt \
		"torch==$(TORCH)" -e . pytest pytest-xdist hypothesis
	touch $@

install: $(VENV)/.dev

demo: $(VENV)/.demo
	$(BIN)/pellucid explain demo demo --output out/demo

test: $(VENV)/.dev
	$(PYTEST) -n $(JOBS)

test-slow: $(VENV)/.docs
	$(PYTEST) -n $(JOBS) -m slow

# A hundred thousand spoilt files, each read; FUZZ=1000 for fewer.
fuzz: $(VENV)/.dev
	$(ONE_THREAD) $(BIN)/python -m tests.fuzz $(FUZZ)

# Real MXNet, to compare with: its last release runs on Python 3.8 with an old numpy.
mxnet-env: $(VENV)-mxnet/.made

$(VENV)-mxnet/.made:
	@"$(MXNET_PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 8))' >/dev/null 2>&1 || { echo "MXNet 1.9.1 needs Python 3.8; name one: make mxnet-env MXNET_PYTHON=..." >&2; exit 2; }
	"$(MXNET_PYTHON)" -m venv --clear $(VENV)-mxnet
	$(VENV)-mxnet/bin/python -m pip --disable-pip-version-check --quiet install "mxnet==1.9.1" "numpy<1.24"
	touch $@

test-torch: $(VENV)-torch/.made-$(TORCH)
	$(ONE_THREAD) $(VENV)-torch/bin/python -m pytest -n $(JOBS) -m core \
		$$(grep -rl --include='test_*.py' 'mark\.core' tests)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/vulture

format: $(VENV)/.dev
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

types: $(VENV)/.dev
	$(BIN)/mypy

coverage: $(VENV)/.dev
	$(ONE_THREAD) $(BIN)/python -m benchmarks.coverage

coverage-methods: $(VENV)/.dev
	$(ONE_THREAD) $(BIN)/python -m benchmarks.coverage --methods

truth: $(VENV)/.dev
	$(ONE_THREAD) $(BIN)/python -m benchmarks.truth

bench: $(VENV)/.dev
	$(ONE_THREAD) $(BIN)/python -m benchmarks.speed
	$(ONE_THREAD) $(BIN)/python -m benchmarks.memory

bench-methods: $(VENV)/.dev
	$(ONE_THREAD) $(BIN)/python -m benchmarks.methods

# LXT patches the classes of older releases of transformers: an environment of its own, against its own gradient.
$(VENV)-lxt/.made: $(VENV)/.made
	"$(PYTHON)" -m venv --clear $(VENV)-lxt
	$(VENV)-lxt/bin/python -m pip --disable-pip-version-check --quiet install \
		"lxt==2.1" "transformers==$(LXT_TRANSFORMERS)" torch==2.14.1 torchvision==0.29.1
	touch $@

bench-lxt: $(VENV)/.dev $(VENV)-lxt/.made
	$(ONE_THREAD) $(BIN)/python -m benchmarks.peer_lxt --python $(VENV)-lxt/bin/python

docs: $(VENV)/.docs
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/measurements.py
	$(BIN)/mkdocs build --strict --quiet

docs-serve: $(VENV)/.docs
	$(BIN)/mkdocs serve

doctest: $(VENV)/.dev
	$(PYTEST) --doctest-modules src/pellucid tests/project/test_documented_code.py

dist: $(VENV)/.dev
	$(BIN)/python -m build --outdir dist

clean:
	rm -rf $(VENV) $(VENV)-torch $(VENV)-lxt $(VENV)-mxnet build dist site out .mypy_cache .ruff_cache .pytest_cache
