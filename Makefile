# Two commands are all a newcomer needs: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= data,tensorflow,test
BIN := $(VENV)/bin
# Reasons for which `make test-extras` may skip tests; it fails if others are skipped.
MAY_SKIP ?= shared|not here|torch|Chromium

.PHONY: quickstart quickstart-tal check test test-extras test-pages test-notebooks test-all notebooks docs docs-links \
	lint install clean

quickstart: $(VENV)/.installed
	$(BIN)/unloc quickstart

quickstart-tal: $(VENV)/.installed
	$(BIN)/unloc quickstart --task temporal_action_localization

# Two processes: tests wait for compilers and children, and each process keeps the models that it has trained.
test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal --deselect tests/pages/test_commands.py::test_the_commands_of_a_page

# For daily work: without the tests that train or start processes.
check: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

# Tests that `make test` skips because their packages are not in its environment. Their files have other tests as well,
# which run once more.
test-extras:
	$(MAKE) install VENV=.venv-extras EXTRAS=data,tensorflow,test,features,wandb,tpu,browser,skypilot,demo,notebooks
	.venv-extras/bin/python -m pytest -n 2 --dist worksteal --may-skip='$(MAY_SKIP)' tests/aot tests/launch \
		tests/training/test_metric_writers.py tests/inference/test_report.py tests/inference/test_waveform.py \
		tests/metrics/diagnosis tests/sweep/test_results.py tests/demo tests/notebooks \
		tests/data_pipelines/test_build_features.py
	$(MAKE) install VENV=.venv-beam EXTRAS=data,tensorflow,test,beam
	.venv-beam/bin/python -m pytest --may-skip='$(MAY_SKIP)' \
		tests/data_pipelines/test_build_on_beam.py tests/data_pipelines/test_build_by_tfds.py \
		tests/data_pipelines/test_build_sound.py::test_beam_builds_the_same

# Executes the notebooks of colab/ at a small size; `make test-extras` does it too.
test-notebooks:
	$(MAKE) install VENV=.venv-notebooks EXTRAS=data,test,notebooks
	.venv-notebooks/bin/python -m pytest --may-skip='$(MAY_SKIP)' tests/notebooks

# Makes colab/*.ipynb of colab/*.py.
notebooks:
	$(MAKE) install VENV=.venv-notebooks EXTRAS=data,test,notebooks
	.venv-notebooks/bin/python -m tests.notebooks.convert

# Runs the commands of all pages at a tiny size. `make test` only parses them.
test-pages: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow tests/pages

# Everything: also what is compared with PyTorch's implementations of CLIP, SigLIP 2 and PE-Core (3 GB more).
test-all: test test-extras test-pages
	$(MAKE) install VENV=.venv-torch EXTRAS=data,tensorflow,test,features,oracle
	.venv-torch/bin/python -m pytest --may-skip='shared|real|big_vision' \
		tests/pretrained/test_clip_originals.py tests/pretrained/test_picture_text_originals.py \
		tests/data_pipelines/test_build_features.py

# The site, in build/docs; any warning is an error, such as a link to a page or a heading that is not there.
docs:
	$(MAKE) install VENV=.venv-docs EXTRAS=docs
	.venv-docs/bin/python -m sphinx -q -W --keep-going -b html docs build/docs
	@echo "made build/docs/index.html"

# Follows the links out of the site, which needs a network.
docs-links:
	$(MAKE) install VENV=.venv-docs EXTRAS=docs
	.venv-docs/bin/python -m sphinx -q -b linkcheck docs build/docs-links

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
	@$(BIN)/python -m pip install -e '.[$(EXTRAS)]'
	@touch $@

clean:
	rm -rf $(VENV) .venv-extras .venv-notebooks .venv-beam .venv-torch .venv-docs docs/generated quickstart build *.egg-info
