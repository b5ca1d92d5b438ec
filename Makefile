# The commands of this project. `make install` is implied by the others.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: install check test bench

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e '.[dev]'
	@touch $@

check: install
	.ci/checks $(BIN)

test: install
	$(BIN)/pytest -q

bench: install
	$(BIN)/mesh bench
