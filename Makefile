# Two commands do everything, the set-up included: `make bench` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: bench gpu-wheels gpu-rehearsal gpu-install gpu-1 gpu-2 gpu-3 gpu-4 test test-fast lint docs soak gate gate-power history history-power history-planted truth fleet predict-truth first-minute compile-time precision aa clean

bench: $(STAMP)  ## run the scenario `quick` on the CPU and write its report
	@run=$$($(BIN)/attnbench run quick) ; code=$$? ; \
	if [ -n "$$run" ]; then echo "report: $$($(BIN)/attnbench report $$run)"; fi ; exit $$code

WHEELS ?= .whl
GPU_PYTHON ?= python3
GPU_SECONDS ?= 540

gpu-wheels: $(STAMP)  ## on a machine with a network: what a bare GPU machine lacks, and the cases of gpu-1, to be carried there in WHEELS
	$(BIN)/python -m tests.gpu.wheels $(WHEELS)
	$(BIN)/python -m tests.gpu.draw $(WHEELS)/cases

gpu-rehearsal: $(STAMP)  ## without a GPU: that machine's Triton interprets the kernels, and compiles every tile size for Hopper; then gpu-1 to gpu-4 with stand-ins
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target .rehearsal $$(grep ^triton== tests/gpu/machine.txt) 'numpy<2.4'
	EVERY_TILE_SIZE=1 PYTHONPATH=.rehearsal $(BIN)/python -m pytest tests/gpu \
		tests/implementations/test_triton_*.py tests/implementations/test_gluon_*.py

gpu-install:  ## on a bare GPU machine, without a network: attnbench and WHEELS beside the torch that is there
	$(GPU_PYTHON) -m pip install --quiet --no-deps --no-index --no-build-isolation $(wildcard $(WHEELS)/*.whl) -e .

gpu-1:  ## ten minutes on a GPU: known faults, and agreement of everything that runs on CUDA; again, it goes on
	$(GPU_PYTHON) -m tests.gpu agreement --requests $(WHEELS)/cases --seconds $(GPU_SECONDS)

gpu-2:  ## the scenario `hopper` against cuDNN and FlashAttention-3 in the same run
	$(GPU_PYTHON) -m tests.gpu table --seconds $(GPU_SECONDS)

gpu-3:  ## tile sizes, each step with its prediction
	$(GPU_PYTHON) -m tests.gpu tiles --seconds $(GPU_SECONDS)

gpu-4:  ## Nsight Compute on the two cells of gpu-2 that are farthest behind
	$(GPU_PYTHON) -m tests.gpu profile --seconds $(GPU_SECONDS)

JOBS ?= 2
IN_PARALLEL = --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

test: $(STAMP) lint  ## everything that CI runs; JOBS=1: one test at a time
	$(BIN)/python -m pytest $(IN_PARALLEL)

test-fast: $(STAMP)  ## for the inner loop: nothing that takes seconds, compiles kernels, or starts a command or a browser
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: $(STAMP)  ## rewrite what the pages under docs/ take from the code, and build the site of them
	$(BIN)/python -m tests.store.metrics_page
	$(BIN)/python -m tests.docs.printed
	$(BIN)/python -m tests.docs.site
	$(BIN)/attnbench schema scenario > scenarios/scenario.schema.json

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

HISTORY_SINCE ?= $$(git log -15 --format=%H -- implementations/numba_flash implementations/pytorch | tail -1)
HISTORY_CELLS ?= gate-smoke -i '^numba/flash' -i '^torch/'
HISTORY_MINUTES ?= 60

history: $(STAMP)  ## the last 15 commits that touched numba/flash or torch: measured, searched, and as a page; idle machine; again, it goes on
	$(BIN)/attnbench history add $(HISTORY_CELLS) --since $(HISTORY_SINCE) --minutes $(HISTORY_MINUTES) \
	  --path implementations/numba_flash --path implementations/pytorch
	$(BIN)/attnbench history find $(HISTORY_CELLS) --minutes $(HISTORY_MINUTES) || [ $$? -eq 1 ] || [ $$? -eq 6 ]
	$(BIN)/attnbench history page --out reports/history --force

history-power: $(STAMP)  ## simulated histories: how often their search is wrong, and what it finds; minutes
	$(BIN)/python -m tests.history --page docs/history.md

PLANTED ?= $(shell mktemp -d)/kernels

history-planted: $(STAMP)  ## a regression of 8 % in one of nine commits, which the search is not told of; idle machine
	$(BIN)/python -m tests.history.planted $(PLANTED)

first-minute: $(STAMP)  ## how long a newcomer and the author of a kernel wait on this machine: on an idle one
	$(BIN)/python -m tests.first_minute --page docs/first-minute.md

fleet: $(STAMP)  ## what Ray costs for each cell, on two nodes of this machine; idle machine
	$(BIN)/python -m tests.fleet

predict-truth: $(STAMP)  ## attnbench predict over slowed networks against what is measured there: as root, idle machine; minutes
	$(BIN)/python -m tests.predicting.truth

compile-time: $(STAMP)  ## processor time that the kernels of numba/flash take to compile, nothing kept from before
	$(BIN)/python -m tests.first_minute.compiling

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

AA_RUNS ?= 7

aa: $(STAMP)  ## AA_RUNS times 30 pairs of names of one kernel, alone and beside a busy core: how often a run calls them different; idle machine, 1 min a run
	$(BIN)/python -m tests.precision.pairs --runs $(AA_RUNS)
	$(BIN)/python -m tests.precision.pairs --runs $(AA_RUNS) --busy
	$(BIN)/python -m tests.precision --summary --page docs/precision.md

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
