# Everything happens in .venv. You need Python 3.11 or newer, make, and a C compiler for the extension.
# Without a compiler, `make run` works in pure Python, and the tests need PYTEST=--no-extension.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml setup.py $(wildcard src/*)

.PHONY: run test test-all bench bench-check lint docs man completion wheels fuzz cover sanitize threads clean

run: $(VENV)/installed
	$(BIN)/fastsmaps

# The fast tests: every part, the core on both backends, few examples of hypothesis. One worker for
# each CPU.
WORKERS ?= auto
PARALLEL = -n $(WORKERS) --dist loadgroup
FAST := not slow and not host and (core or not pure)

test: $(VENV)/installed $(VENV)/test
	$(BIN)/pytest --hypothesis-profile=fast $(PARALLEL) -m "$(FAST)" $(PYTEST)

# All tests: everything on both backends, slow and host-wide ones, a new interpreter for each command.
test-all: $(VENV)/installed $(VENV)/test
	$(BIN)/pytest --spawn $(PARALLEL) $(PYTEST)

bench: $(VENV)/installed $(VENV)/bench
	$(BIN)/pytest benchmarks $(PYTEST)

# Compare the instructions of parse and totals with the stored counts; needs valgrind.
# STORE=--store stores the new counts.
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

# Make the man page and the shell completions from the command's parser, in release/share.
man completion: $(VENV)/installed $(VENV)/release
	$(BIN)/python release/documents.py $@

# Build and test a release in dist/, without publishing it.
wheels: man completion
	release/wheels $(BIN)

docs: $(VENV)/installed $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# docs/testing.md says what these need and what they found.
SECONDS ?= 60
fuzz: $(VENV)/installed $(VENV)/fuzz
	fuzz/run $(BIN)/python $(SECONDS)

cover: $(VENV)/installed $(VENV)/fuzz
	fuzz/cover $(BIN)/python

sanitize: $(VENV)/installed $(VENV)/fuzz
	fuzz/sanitize $(BIN)/python $(PYTEST)

# Use a free-threaded Python with PYTHON=; release/free-threaded builds one.
threads:
	fuzz/threads $(PYTHON) $(PYTEST)

clean:
	rm -rf $(VENV) build dist release/share *.egg-info fastsmaps/_backend/*.so src/_csmaps.c
