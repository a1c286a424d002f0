# Everything happens in .venv; a fresh machine needs Python 3.11 or newer, make, and a C compiler
# for the extension (without one, run works in pure Python, and test wants PYTEST=--no-extension).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml setup.py $(wildcard src/*)

.PHONY: run test test-all bench bench-check lint docs man completion wheels fuzz cover sanitize threads clean

run: $(VENV)/installed
	$(BIN)/fastsmaps

# What a contributor runs all day: every part, the core on both backends, hypothesis in brief, in a
# worker for each processor.
WORKERS ?= auto
PARALLEL = -n $(WORKERS) --dist loadgroup
BRIEF := not slow and not host and (core or not pure)

test: $(VENV)/installed $(VENV)/test
	$(BIN)/pytest --hypothesis-profile=fast $(PARALLEL) -m "$(BRIEF)" $(PYTEST)

# Everything: all on both backends, slow and host-wide tests, each command in its own interpreter.
test-all: $(VENV)/installed $(VENV)/test
	$(BIN)/pytest --spawn $(PARALLEL) $(PYTEST)

bench: $(VENV)/installed $(VENV)/bench
	$(BIN)/pytest benchmarks $(PYTEST)

# Instructions of parse and totals against the stored ones; needs valgrind.
# STORE=--store makes these the stored ones.
bench-check: $(VENV)/installed $(VENV)/bench
	$(BIN)/python benchmarks/instructions.py $(STORE)

lint: $(VENV)/installed $(VENV)/test $(VENV)/bench $(VENV)/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cython-lint src
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy fastsmaps
	$(BIN)/mypy tests
	$(BIN)/mypy benchmarks
	MYPYPATH=tests $(BIN)/mypy fuzz
	$(BIN)/mypy release docs

$(VENV)/pip:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.x" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	touch $@

$(VENV)/installed: $(VENV)/pip $(SOURCES)
	$(BIN)/python -m pip install --quiet --editable .
	$(BIN)/python -m compileall -q fastsmaps
	touch $@

$(VENV)/test $(VENV)/bench $(VENV)/lint $(VENV)/docs $(VENV)/release $(VENV)/fuzz: $(VENV)/%: $(VENV)/pip pyproject.toml
	$(BIN)/python -m pip install --quiet --group $*
	touch $@

# The man page and the completion of shells, made from the command's parser, into release/share.
man completion: $(VENV)/installed $(VENV)/release
	$(BIN)/python release/documents.py $@

# All of a release that can be done here, into dist/: nothing is sent anywhere.
wheels: man completion
	release/wheels $(BIN)

docs: $(VENV)/installed $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# docs/proof.md tells what these need and what they found.
SECONDS ?= 60
fuzz: $(VENV)/installed $(VENV)/fuzz
	fuzz/run $(BIN)/python $(SECONDS)

cover: $(VENV)/installed $(VENV)/fuzz
	fuzz/cover $(BIN)/python

sanitize: $(VENV)/installed $(VENV)/fuzz
	fuzz/sanitize $(BIN)/python $(PYTEST)

# Best with PYTHON=a free-threaded one, which release/free-threaded makes.
threads:
	fuzz/threads $(PYTHON) $(PYTEST)

clean:
	rm -rf $(VENV) build dist release/share *.egg-info fastsmaps/_backend/*.so src/_csmaps.c
