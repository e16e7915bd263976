# Everything a developer or CI runs. `make` lists the commands; each sets itself up in .venv
# from nothing but Python 3.11 and pip (pip's own configuration and PIP_* variables are respected).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV ?= .venv
PY := $(VENV)/bin/python
RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev
BENCH := $(VENV)/.installed-bench
PIP := $(PY) -m pip --disable-pip-version-check install --constraint constraints.txt
STYLED := .
TYPED := weiml tests $(wildcard actors/*.py benchmarks/*.py pipelines/*.py serve/*.py tune/*.py)
ARGS ?=
comma := ,

# pip's output as one line that moves (none without a terminal); its errors only when it fails.
define install
@tty=0; if [ -t 1 ]; then tty=1; fi; n=0; \
$(PIP) $(1) 2>$(VENV)/install.log | while IFS= read -r line; do \
  [ $$tty = 1 ] || continue; \
  case "$$line" in \
    *"Collecting "*) n=$$((n + 1)); name="$${line##*Collecting }"; \
      printf '\r   %d packages to get, now %-40.40s' $$n "$${name%% *}";; \
    "Installing "*) printf '\r   unpacking %d packages, the longest part%30s' $$n "";; \
    "Successfully "*) printf '\r%72s\r' "";; \
  esac; \
done \
|| { grep -v '^WARNING: Location' $(VENV)/install.log >&2; \
     echo "error: pip could not install weiml into $(VENV); see above, then run make again" >&2; exit 1; }
endef

demo_flags := $(if $(filter-out 0,$(KEEP)),--keep) $(if $(filter-out 0,$(QUICK)),--quick)
bench_flags := $(if $(filter-out 0,$(QUICK)),--quick)

.PHONY: help setup demo test slow check format bench clean distclean

help:  ## List the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(RUNTIME)  ## From raw ratings to a ranked feed and a report (KEEP=1: leave it serving; QUICK=1: less data)
	@exec $(PY) -m pipelines.feed $(demo_flags) $(ARGS)

test: $(DEV)  ## The test suite, without the slow checks (ARGS="tests/ps -k ftrl" for a part)
	@exec $(PY) -m pytest $(ARGS)

slow: $(DEV)  ## The slow checks: a real Ray job, more signals, the wheel, searches
	@exec $(PY) -m pytest -m slow $(ARGS)

check: $(DEV)  ## Format, lint and types, changing nothing
	@$(PY) -m ruff format --check $(STYLED)
	@$(PY) -m ruff check $(STYLED)
	@$(PY) -m mypy $(TYPED)

format: $(DEV)  ## Format the code and mend what the linter can
	@$(PY) -m ruff format $(STYLED)
	@$(PY) -m ruff check --fix $(STYLED)

bench: $(BENCH)  ## All benchmarks; reports go to docs/reports (QUICK=1: under a minute each)
	@exec $(PY) -m benchmarks $(bench_flags) $(ARGS)

setup: $(DEV)  ## Only make .venv with everything in it

clean:  ## Remove runs, caches and build products
	@rm -rf runs mlruns build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name .venv -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

distclean: clean  ## Also remove .venv
	@rm -rf $(VENV)

# A stamp is written last, so an interrupted installation starts again where pip left it.
# The developer's set comes after the runtime's: two pips never write to one .venv at a time.
$(RUNTIME): pyproject.toml constraints.txt
	@if ! $(PY) -m pip --version >/dev/null 2>&1; then \
	  python="$(PYTHON)"; \
	  for candidate in python3.11 python3 python; do \
	    [ -z "$$python" ] || break; \
	    "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	      && python="$$candidate" || true; \
	  done; \
	  [ -n "$$python" ] \
	    || { echo "error: no Python >= 3.11 found on PATH; say which one: make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "error: weiml needs Python >= 3.11, but $$python is $$("$$python" --version 2>&1); use make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	  echo "== making $(VENV) with $$("$$python" --version)"; \
	  "$$python" -m venv --clear $(VENV) \
	    || { echo "error: $$python could not make $(VENV); is its venv module installed (Debian: python3-venv)?" >&2; exit 1; }; \
	fi
	@echo "== installing weiml and what it runs on into $(VENV): Ray, PyTorch and others, one to five minutes"
	$(call install,setuptools)
	$(call install,--no-build-isolation --editable .)
	@touch $@

$(DEV): $(RUNTIME)
	@echo "== installing the tools of the tests into $(VENV): TensorFlow, pytest, mypy and others, about a minute"
	$(call install,--no-build-isolation --editable '.[dev$(comma)tensorflow]')
	@touch $@

$(BENCH): $(DEV)
	@echo "== installing what benchmarks compare with into $(VENV): Vowpal Wabbit, some seconds"
	$(call install,--no-build-isolation --editable '.[bench]')
	@touch $@
