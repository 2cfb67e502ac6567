# `make demo` and `make test` are all the set-up there is: each builds .venv when it has to.

PYTHON ?= python3
PIP = .venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt
export PIP_NO_INPUT = 1

.PHONY: demo test coverage faults mutants check bench
demo: .venv/installed
	.venv/bin/ens demo

test: .venv/installed-dev
	.venv/bin/pytest -q -n auto --dist loadfile

# What of the packages the tests reach, and whether it is enough; half as slow again as `make test`.
coverage: .venv/installed-dev
	.venv/bin/coverage erase
	.venv/bin/coverage run -m pytest -q -n auto --dist loadfile
	.venv/bin/coverage combine --quiet
	.venv/bin/coverage report
	.venv/bin/coverage json --quiet -o - | .venv/bin/python tests/covered.py

# Every crash that can be injected, and 200 kills: half an hour on two cores that had other work too.
# `make test` has a few of them.
faults: .venv/installed-dev
	.venv/bin/pytest -q -n auto --dist worksteal -m "faults or slow" tests/faults

# 200 faults put into fusion, steps and scoring, one at a time: which do the tests miss? Half an hour
# or so; see docs/mutants.md. SEED draws others.
SEED ?= 1
SIZE ?= 200

mutants: .venv/installed-mutants
	.venv/bin/python benchmarks/mutants.py --seed $(SEED) --size $(SIZE)

check: .venv/installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/pytest -q tests/test_layout.py

# BENCH names a part of the suite, such as benchmarks/test_bench_scoring.py; BENCH_TIMER=time.process_time
# leaves out other work on the machine. No type checks as in the tests: they would be timed too.
BENCH ?= benchmarks
BENCH_TIMER ?= time.perf_counter
BENCH_RESULT = benchmarks/results/$(shell date +%Y-%m-%dT%H%M%S)-$(shell git rev-parse --short HEAD 2>/dev/null || echo no-commit).json

bench: .venv/installed-dev
	@mkdir -p $(dir $(BENCH_RESULT))
	.venv/bin/pytest -q -o addopts=--import-mode=importlib $(BENCH) --benchmark-only \
		--benchmark-timer=$(BENCH_TIMER) --benchmark-group-by=group \
		--benchmark-columns=min,median,iqr --benchmark-json=$(BENCH_RESULT)

KERNEL = hatch_build.py $(wildcard evaluation/*.cpp members/*.cpp postproc/dense_crf/*.cpp postproc/dense_crf/*.h)

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
