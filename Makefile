# Two commands are all a newcomer needs: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart quickstart-tal test lint install clean

quickstart: $(VENV)/.installed
	$(BIN)/unloc quickstart

quickstart-tal: $(VENV)/.installed
	$(BIN)/unloc quickstart --task temporal_action_localization

# Two processes: tests wait for compilers and children, and each process keeps the models that it has trained.
test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

install: $(VENV)/.installed

# Installed again when the package's requirements change.
$(VENV)/.installed: pyproject.toml
	@# Without a working pip there is no virtual environment yet, or a half-made one, which venv completes.
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
			echo "unloc_jax needs Python 3.11 or newer; '$(PYTHON)' is none: make PYTHON=python3.12 quickstart"; \
			exit 1; }; \
		$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { \
			rm -rf $(VENV); \
			echo "'$(PYTHON) -m venv $(VENV)' failed; on Debian and Ubuntu: sudo apt install python3-venv"; \
			exit 1; }; }
	@echo "installing unloc_jax and what it needs into $(VENV) (about 2.5 GB, a minute or two)"
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install -e '.[data,test]'
	@touch $@

clean:
	rm -rf $(VENV) quickstart build *.egg-info
