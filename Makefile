# make lab: JupyterLab.  make finetune: one real fine-tune.  make test: everything CI runs.  make test-fast: for editing.
# make bench: speed.  make notebooks: execute and store them.  make stamp: badges and set-up cells, after a fork.
# Each makes .venv first, and installs only when the requirements have changed.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
# What is installed: the versions the tests ran on. The weekly run of CI asks for the newest instead.
WANTED ?= -r requirements.txt

.PHONY: lab finetune test test-fast bench notebooks stamp chromium
.DELETE_ON_ERROR:

finetune: $(INSTALLED)
	$(BIN)/hpkit finetune

lab: $(INSTALLED)
	$(BIN)/jupyter lab

test: $(INSTALLED) chromium
	$(BIN)/python tests/layers.py

test-fast: $(INSTALLED)
	$(BIN)/python tests/layers.py fast

# TRL is for the comparison alone. The constraints keep every version that is installed.
bench: $(INSTALLED) chromium
	$(BIN)/python -m pip freeze --exclude-editable > .venv/constraints.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-input -q -c .venv/constraints.txt -e .[bench]
	$(BIN)/python tests/bench_training.py
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
	$(BIN)/python -m pip install --disable-pip-version-check --no-input $(WANTED)
	touch $@
