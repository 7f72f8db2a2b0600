# Every target makes what it needs: Python 3.11+ and make are all that is assumed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# -c pins every version; PIP_ARGS is for people behind a mirror.
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS)

# For tests that are compiled more than they run: no optimisation, and the older emitter of fused loops, which compiles in
# half the time.
TEST_FLAGS := XLA_FLAGS="--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"

.PHONY: demo test test-all test-study lint bench docs clean help

help:
	@echo "make demo      install the base, train ACCEL for a few minutes, write a report to open"
	@echo "make test      install everything, lint, check types and imports, run the tests"
	@echo "make test-all  the same with the learning checks and kill tests (an hour)"
	@echo "make test-study STUDY=mogfn   the fast tests of what concerns one system"
	@echo "make lint      ruff, pyright, import contracts"
	@echo "make bench     compare with the peers (one environment each under benchmarks/.envs)"
	@echo "make docs      build the documentation into site/"

$(VENV)/.base: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[all,dev]'
	@touch $@ $(VENV)/.base

demo: $(VENV)/.base
	$(BIN)/tutelage run minimax/accel --preset quick --schedule.num-updates 1500 --out runs/demo
	$(BIN)/tutelage report runs/demo

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

test: lint
	# A file stays on one worker, for its tests share what was compiled.
	$(TEST_FLAGS) $(BIN)/pytest -n 2 --dist loadfile -m "not slow"

test-study: $(VENV)/.dev
	$(TEST_FLAGS) $(BIN)/pytest -n 2 --dist loadfile -m "not slow" --study $(STUDY)

test-all: lint
	$(BIN)/pytest -n 2 --dist loadfile

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/minimax.py
	$(BIN)/python benchmarks/lm.py
	$(BIN)/python benchmarks/mogfn.py
	$(BIN)/python benchmarks/reason_rl.py

docs: $(VENV)/.dev
	$(PIP) -e '.[docs]'
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) .cache site build dist
