# Everything is installed into .venv; PYTHON=python3.12 chooses the Python that makes it (3.10+).
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help figures paper demo playground sweep slurm-demo lint test test-all bench gpu clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

figures: .venv/installed ## train the five models of Fig. 2 and Fig. 3, draw both into outputs/figures
	$(BIN)/python train.py experiment=figures
	$(BIN)/python visualize.py figure=all runs=outputs/figures

paper: .venv/installed ## the same by the paper's own training into outputs/paper, hours on a CPU; it resumes
	$(BIN)/python train.py experiment=figures recipe=paper hydra.sweep.dir=outputs/paper
	$(BIN)/python visualize.py figure=all runs=outputs/paper

demo: .venv/installed ## a taste of both figures in outputs/demo, in three minutes
	$(BIN)/python train.py experiment=demo
	$(BIN)/python visualize.py figure=all runs=outputs/demo

playground: .venv/installed ## write outputs/playground.html, in which a small network trains while one moves λ
	$(BIN)/python visualize.py figure=playground

sweep: .venv/installed ## train the grid over λ and α and draw what they do into outputs/sweep, an hour
	$(BIN)/python train.py experiment=sweep
	$(BIN)/python visualize.py figure=sweep runs=outputs/sweep

slurm-demo: .venv/installed-test ## a sweep on a Slurm cluster of this one machine, with a job preempted and one killed
	scripts/slurm_on_loopback.sh demo

lint: .venv/installed-lint ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: .venv/installed-test ## run the fast tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 4 --dist worksteal

test-all: test ## run all tests, also the slow ones, which measure times: one after the other
	$(BIN)/python -m pytest -m slow

bench: .venv/installed ## measure training, its layers, CenterLoss, a sweep and the programs' start, half an hour
	$(BIN)/python -m benchmarks.training --json outputs/benchmarks/training.json
	$(BIN)/python -m benchmarks.layers --json outputs/benchmarks/layers.json
	$(BIN)/python -m benchmarks.loss --json outputs/benchmarks/loss.json
	$(BIN)/python -m benchmarks.sweep --json outputs/benchmarks/sweep.json
	$(BIN)/python -m benchmarks.program --json outputs/benchmarks/program.json

gpu: .venv/installed-test ## on a machine with a GPU: its tests, training's speed and two runs, ten minutes
	$(BIN)/python -m benchmarks.gpu --json outputs/benchmarks/gpu.json

clean: ## remove .venv; data and outputs stay
	rm -rf .venv

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "error: Python 3.10 or newer is needed: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements.txt
	@touch $@

.venv/installed-test: .venv/installed requirements-test.txt requirements-submitit.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements-test.txt
	@touch $@

.venv/installed-lint: .venv/installed requirements-lint.txt requirements-submitit.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements-lint.txt
	@touch $@
