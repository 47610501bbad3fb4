# Two commands do everything, the set-up included: `make bench` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: bench hopper test test-fast lint docs soak gate gate-power truth precision clean

bench: $(STAMP)  ## run the scenario `quick` on the CPU and write its report
	@run=$$($(BIN)/attnbench run quick) ; code=$$? ; \
	if [ -n "$$run" ]; then echo "report: $$($(BIN)/attnbench report $$run)"; fi ; exit $$code

HOPPER_RUN ?= results/runs/hopper.jsonl

hopper: $(STAMP)  ## on a GPU: agreement and time of the scenario `hopper`, and its report; again, it goes on where it stopped
	@if [ -e $(HOPPER_RUN) ]; then $(BIN)/attnbench run --resume $(HOPPER_RUN); \
	else $(BIN)/attnbench run hopper --out $(HOPPER_RUN); fi ; code=$$? ; \
	if [ -e $(HOPPER_RUN) ]; then echo "report: $$($(BIN)/attnbench report $(HOPPER_RUN) --force)"; fi ; exit $$code

JOBS ?= 2
IN_PARALLEL = --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

test: $(STAMP) lint  ## everything that CI runs; JOBS=1: one test at a time
	$(BIN)/python -m pytest $(IN_PARALLEL)

UNITS := $(addprefix tests/,cases gate machine oracle power runner scaling store sweep views worker)

test-fast: $(STAMP)  ## for the inner loop, 75 s on two cores: nothing that compiles kernels, or starts a command or a browser
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "not slow" $(UNITS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: $(STAMP)  ## rewrite what the pages under docs/ take from the code
	$(BIN)/python -m tests.store.metrics_page

SOAK ?=

soak: $(STAMP)  ## every implementation on every bundled scenario, 200 sets of values: hours, goes on where it ended; SOAK="--minutes 30"
	$(BIN)/python -m tests.soak $(SOAK)

GATE_BASE ?= HEAD~1
GATE ?=

gate: $(STAMP)  ## this checkout, uncommitted changes included, against GATE_BASE; GATE="--delta 5%"
	$(BIN)/attnbench gate gate-smoke --base $(GATE_BASE) --head . $(GATE)

GATES ?= 3

gate-power: $(STAMP)  ## GATES more gates, one of three with known faults: how often the gate is wrong here
	$(BIN)/python -m tests.power --gates $(GATES) --page docs/gate-power.md

truth: $(STAMP)  ## known durations and footprints as they are measured here, alone and beside a busy core: on an idle machine
	$(BIN)/python -m tests.truth --page docs/truth.md

# The environment is made again when what it is made from changes.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "attnbench needs Python 3.11 or newer: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip setuptools
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable '.[test]'
	@touch $@

REPEATS ?= 20

precision: $(STAMP)  ## attnbench and its peers on the same callables, REPEATS times each: how much their figures differ; idle machine
	$(BIN)/python -m pip install --quiet -c constraints.txt pyperf
	$(BIN)/python -m tests.precision --repeats $(REPEATS)
	$(BIN)/python -m tests.precision --repeats $(REPEATS) --busy --page docs/precision.md

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
