# `make demo` and `make test` need Python 3.11 or newer and make, nothing else: everything goes into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo stages test test-slow check setup clean

setup: .venv/ready

.venv/bin/python:
	$(PYTHON) -m venv .venv

# What the package needs to run, which is all that a demo needs.
.venv/ready-demo: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

# And linters, types, tests and the optional libraries that they test.
.venv/ready: .venv/ready-demo
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: .venv/ready-demo
	$(BIN)/latentshift generate "a red star circling on a navy background" -o outputs/star.mp4 --seed 1
	$(BIN)/latentshift generate --prompts-file recipes/demo-prompts.txt -o outputs/demo --suffix .gif --seed 1 \
		--contact-sheet outputs/contact-sheet.png
	@echo "Look at outputs/star.mp4 and outputs/contact-sheet.png"

# The three recipes of the sprites world, one after the other: hours on two cores. The same command goes on where it was
# stopped.
stages: .venv/ready-demo
	$(BIN)/latentshift train recipes/sprites-autoencoder.yaml
	$(BIN)/latentshift train recipes/sprites-image.yaml
	$(BIN)/latentshift train recipes/sprites-video.yaml

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Two workers of one thread each: with two threads each they take turns on two cores, at twice the processor time.
test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 10

test-slow: check
	$(BIN)/python -m pytest --durations 10

clean:
	rm -rf .venv outputs
