# make lab: JupyterLab.  make finetune: one real fine-tune.  make test: everything CI runs.  make bench: speed.
# Each makes .venv first, and installs only when the requirements have changed.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: lab finetune test bench
.DELETE_ON_ERROR:

finetune: $(INSTALLED)
	$(BIN)/hpkit finetune

lab: $(INSTALLED)
	$(BIN)/jupyter lab

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

bench: $(INSTALLED)
	$(BIN)/python tests/bench.py

$(INSTALLED): requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --no-input -r requirements.txt
	touch $@
