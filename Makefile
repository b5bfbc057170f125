# Everything runs in .venv; `make help` lists the targets.

PYTHON ?= python3
AGENT ?= cartpole_swingup
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.DEFAULT_GOAL := help
.PHONY: help setup test test-slow docs soak image demo watch clean
.DELETE_ON_ERROR:

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/.dev $(VENV)/.cuda $(VENV)/.rendering ## Make .venv with all that training and developing need

test: setup ## Lint, then the quick tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist worksteal

test-slow: setup ## The tests that take minutes
	$(BIN)/python -m pytest -m slow --numprocesses 2

docs: $(VENV)/.dev ## Build the site with guides, settings and API reference: site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

soak: $(VENV)/.run $(VENV)/.cuda $(VENV)/.rendering ## Train for two hours, killed at random times, and check that nothing is lost
	$(BIN)/python scripts/soak.py

image: ## Build the CPU image without Docker and try it: as root, with buildah and podman, 12 minutes, 10 GB
	scripts/image.sh

demo: $(VENV)/.run $(VENV)/.cuda $(VENV)/.rendering ## Train a small agent for 3 minutes and show what it learned; TASK=cartpole_balance: for 10, in DM Control
	$(BIN)/python -m dreamer.demo $(TASK)

# As far ahead as its actor was trained to look: 15 steps.
watch: $(VENV)/.run $(VENV)/.cuda $(VENV)/.rendering ## Play a trained agent and show what it imagines: AGENT=NAME, one of agents/
	$(BIN)/python -m dreamer eval --logdir agents/$(AGENT) --precision auto --episodes 2 --video runs/watch/$(AGENT).mp4
	$(BIN)/python -m dreamer imagine --logdir agents/$(AGENT) --precision auto --episodes 3 --horizon 15 --out runs/watch/$(AGENT).gif

clean: ## Remove .venv, caches and what demo and watch made, but no other runs
	rm -rf $(VENV) *.egg-info build dist site .ruff_cache .mypy_cache .pytest_cache runs/demo runs/watch
	find . -path ./runs -prune -o -name __pycache__ -prune -exec rm -rf {} +

# The files .run, .dev, .cuda and .rendering record that a step succeeded, so that it is not repeated.

$(VENV)/.run: requirements.txt pyproject.toml setup.py | $(BIN)/python
	@echo "Installing what requirements.txt names into $(VENV): 3.2 GB on disk, a few minutes without a word."
	$(PIP) -r requirements.txt
	$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	$(PIP) -r requirements-dev.txt
	@touch $@

$(VENV)/.cuda: scripts/cuda.sh $(VENV)/.run
	@scripts/cuda.sh $(BIN)/python $@

$(VENV)/.rendering: scripts/rendering.sh | $(VENV)/.run
	@scripts/rendering.sh $(BIN)/python
	@touch $@

$(BIN)/python:
	@scripts/check_python.sh $(PYTHON)
	$(PYTHON) -m venv $(VENV)
