# `make help` lists what there is. Each target first makes .venv and installs what it needs, once.
PYTHON ?= $(shell for p in python3 python3.12 python3.13 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

# Usage reports and crash uploads of the Mojo toolchain stay off, also for `mojo` itself (README, "Telemetry").
export MODULAR_TELEMETRY_ENABLED ?= 0
export MODULAR_CRASH_REPORTING_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: help serve test lab check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

serve: $(VENV)/.serve ## serve the default model; ARGS="--model NAME" and more are passed on
	@$(BIN)/python -m mili.serve $(ARGS)

lab: $(VENV)/.lab ## make the learner's copy of the notebooks and open JupyterLab on it
	@$(BIN)/python -m workbook start
	@$(BIN)/jupyter lab --notebook-dir="$${MILI_LEARN:-learn}" $(ARGS)

test: $(VENV)/.test ## run the tests and every notebook; ARGS="-k name" and more go to pytest
	@$(BIN)/python -m pytest --durations=15 $(ARGS)

check: $(VENV)/.dev ## lint, types, formatting and compiler warnings, without tests
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash .ci/lint

clean: ## remove .venv and caches (not learn/, which holds the learner's work)
	rm -rf $(VENV) $(VENV).lock .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build

define install
	@test -n "$(PYTHON)" || { echo "MILI needs Python 3.11, 3.12 or 3.13, and none of python3, python3.12, python3.13" \
		"and python3.11 is one. Install one, or run: make PYTHON=/path/to/python3.12 TARGET" >&2; exit 1; }
	@$(PYTHON) .ci/venv.py $@ $(1)
endef

$(VENV)/.serve: pyproject.toml
	$(call install)
$(VENV)/.lab: pyproject.toml
	$(call install,lab)
$(VENV)/.test: pyproject.toml
	$(call install,test)
$(VENV)/.dev: pyproject.toml
	$(call install,dev)
