# Two commands are all a newcomer needs: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart quickstart-tal test lint install clean

quickstart: $(VENV)/.installed
	$(BIN)/unloc quickstart

quickstart-tal: $(VENV)/.installed
	$(BIN)/unloc quickstart --task temporal_action_localization

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

install: $(VENV)/.installed

# Installed again when the package's requirements change.
$(VENV)/.installed: setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "installing unloc_jax and what it needs into $(VENV) (about 2.5 GB, a minute or two)"
	$(BIN)/python -m pip install --quiet -e '.[data,test]'
	touch $@

clean:
	rm -rf $(VENV) quickstart build *.egg-info
