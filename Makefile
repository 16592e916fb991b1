# make lab: JupyterLab.  make finetune: one real fine-tune.  make test: everything CI runs.
# make bench: speed.  make notebooks: execute and store them.  make stamp: badges and set-up cells, after a fork.
# Each makes .venv first, and installs only when the requirements have changed.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: lab finetune test bench notebooks stamp chromium
.DELETE_ON_ERROR:

finetune: $(INSTALLED)
	$(BIN)/hpkit finetune

lab: $(INSTALLED)
	$(BIN)/jupyter lab

test: $(INSTALLED) chromium
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest
	HF_HUB_OFFLINE=1 HPKIT_CACHE=$$(mktemp -d) $(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=300 notebooks

bench: $(INSTALLED) chromium
	$(BIN)/python tests/bench.py
	$(BIN)/python -m pytest -s tests/browser/bench.py

notebooks: $(INSTALLED)
	$(BIN)/python notebooks/build.py

stamp: $(INSTALLED)
	$(BIN)/python notebooks/build.py --stamp

# The browser of the tests, where it is missing and Debian's package may be installed.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -n)
chromium:
	@command -v chromium >/dev/null || { $(SUDO) apt-get update -qq && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium; } || \
	{ echo "the tests need a browser, the command chromium, and could not install it: install Chromium, then run this again"; exit 1; }

$(INSTALLED): requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --no-input -r requirements.txt
	touch $@
