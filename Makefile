# `make demo` and `make test` need Python 3.11 or newer and make, nothing else: everything goes into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow check setup clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/latentshift generate "a red star circling on a navy background" -o outputs/star.mp4 --seed 1
	$(BIN)/latentshift generate --prompts-file recipes/demo-prompts.txt -o outputs/demo --suffix .gif --seed 1 \
		--contact-sheet outputs/contact-sheet.png
	@echo "Look at outputs/star.mp4 and outputs/contact-sheet.png"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: check
	$(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: check
	$(BIN)/python -m pytest

clean:
	rm -rf .venv outputs
