# `make demo` and `make test` are all the set-up there is: each builds .venv when it has to.

PYTHON ?= python3
PIP = .venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt
export PIP_NO_INPUT = 1

.PHONY: demo test check bench
demo: .venv/installed
	.venv/bin/ens demo

test: .venv/installed-dev
	.venv/bin/pytest -q

check: .venv/installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/pytest -q tests/test_layout.py

bench: .venv/installed-dev
	@mkdir -p benchmarks/results
	.venv/bin/pytest -q benchmarks --benchmark-only --benchmark-group-by=group \
		--benchmark-columns=median,iqr,ops --benchmark-json=benchmarks/results/latest.json

KERNEL = hatch_build.py $(wildcard postproc/dense_crf/*.cpp postproc/dense_crf/*.h)

.venv/installed: pyproject.toml constraints.txt $(KERNEL)
	$(PYTHON) -m venv .venv
	$(PIP) -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(PIP) -e '.[dev]'
	touch $@
