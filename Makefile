# `make demo` and `make test` need no other set-up: each builds .venv if it is missing or out of date.

PYTHON ?= python3
PIP = .venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt
export PIP_NO_INPUT = 1
# Type checks and assertions are compiled into each module: half a minute per process, if none is kept.
export PYTHONDONTWRITEBYTECODE =

# Files come in the order of tests/conftest.py.
PARALLEL = -n auto --dist loadfile --no-loadscope-reorder

.PHONY: demo test docs coverage faults mutants check bench bench-libraries
demo: .venv/installed
	.venv/bin/ens demo

test: .venv/installed-dev
	.venv/bin/pytest -q $(PARALLEL)

# The documentation as a site of static pages, in site/.
docs: .venv/installed-dev
	.venv/bin/sphinx-build -W --keep-going -q docs site

# Lines and branches that the tests reach, and whether they are enough; 1.5 times as slow as `make test`.
coverage: .venv/installed-dev
	.venv/bin/coverage erase
	.venv/bin/coverage run -m pytest -q $(PARALLEL)
	.venv/bin/coverage combine --quiet
	.venv/bin/coverage report
	.venv/bin/coverage json --quiet -o - | .venv/bin/python tests/covered.py

# Every crash that can be injected, and 200 kills: half an hour on two busy cores. `make test` runs a
# few of them.
faults: .venv/installed-dev
	.venv/bin/pytest -q -n auto --dist worksteal -m "faults or slow" tests/faults

# 200 faults put into fusion, steps and scoring, one at a time: which do the tests miss? About half an
# hour; see docs/mutants.md. SEED samples others.
SEED ?= 1
SIZE ?= 200

mutants: .venv/installed-mutants
	.venv/bin/python benchmarks/mutants.py --seed $(SEED) --size $(SIZE)

check: .venv/installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/pytest -q tests/test_layout.py -k import

# BENCH selects a part of the suite, such as benchmarks/test_bench_scoring.py; without it, small runs of
# the comparisons with other libraries come first. BENCH_TIMER=time.process_time leaves out other work on
# the machine. Shape checks are off, since they would be timed too.
BENCH ?= benchmarks
BENCH_TIMER ?= time.perf_counter
BENCH_RESULT = benchmarks/results/$(shell date +%Y-%m-%dT%H%M%S)-$(shell git rev-parse --short HEAD 2>/dev/null || echo no-commit).json

bench: .venv/installed-dev $(if $(filter benchmarks,$(BENCH)),bench-libraries)
	@mkdir -p $(dir $(BENCH_RESULT))
	.venv/bin/pytest -q -o addopts=--import-mode=importlib $(BENCH) --benchmark-only \
		--benchmark-timer=$(BENCH_TIMER) --benchmark-group-by=group \
		--benchmark-columns=min,median,iqr --benchmark-json=$(BENCH_RESULT)

# Each comparison has a command of its own with options for the size: `python -m benchmarks.fuse --help`.
bench-libraries: .venv/installed-dev
	.venv/bin/python -m benchmarks.fuse --members 4 --images 64 --pixels 200000 --rounds 2
	.venv/bin/python -m benchmarks.crf --images 4 --rounds 2 --no-sweep
	.venv/bin/python -m benchmarks.morphology --images 20 --rounds 3
	.venv/bin/python -m benchmarks.score --images 256 --rounds 3
	.venv/bin/python -m benchmarks.scale --members 4 --images 1000 --stored 1000 --rounds 2 --on-workers 512

KERNEL = hatch_build.py $(wildcard evaluation/*.cpp members/*.cpp members/*.h postproc/dense_crf/*.cpp postproc/dense_crf/*.h)

.venv/installed: pyproject.toml constraints.txt $(KERNEL)
	$(PYTHON) -m venv .venv
	$(PIP) -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(PIP) -e '.[dev]'
	touch $@

.venv/installed-mutants: .venv/installed-dev
	$(PIP) -e '.[mutants]'
	touch $@
