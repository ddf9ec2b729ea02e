# `make help` lists what there is. All of it stays on this machine: no cloud but the local ones is reached.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
STACK ?= local
PLUGINS ?=
# Not from the environment, which may have a variable of this name for something else.
PROJECT :=
SANDBOX = $(PY) -m localcloud.runtime.sandbox
WHICH = --stack $(STACK) $(if $(PROJECT),--project '$(PROJECT)')

.PHONY: help prepare installed up down preview status catalogue env test test-fast prove bench soak check reference format lint types requirements

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

prepare: installed ## install what is missing: Debian packages, .venv, the Pulumi engine (built with Go), the machines' image, a client for the tests
	@$(PY) -m tests.cloud.triton_client

# All of it but what only the tests need.
installed:
	@command -v python3 >/dev/null || { log=.rollcall/logs/prepare-python3.log; mkdir -p .rollcall/logs; \
	  echo "==> python3: installing it from Debian, about a minute" >&2; apt-get install -y -q python3 python3-venv >$$log 2>&1 || { \
	  echo "rollcall: python3: apt-get cannot install it. Install python3 and python3-venv. $$log ends with" >&2; tail -n 20 $$log >&2; exit 1; }; }
	@python3 -m localcloud.runtime.prepare

up: installed ## everything from nothing to a site that answers from two clouds (STACK=prod, PLUGINS=real, PROJECT=folder of your Pulumi.yaml)
	@$(SANDBOX) up $(WHICH) $(if $(PLUGINS),--plugins $(PLUGINS))

down: ## destroy the stack, then stop the local clouds; logs, .venv and caches are left (STACK=prod)
	@if [ -x $(PY) ]; then $(SANDBOX) down $(WHICH); else echo "nothing is up"; fi

preview: installed ## what `pulumi up` would change, on the local clouds (STACK=prod)
	@$(SANDBOX) preview $(WHICH) $(if $(PLUGINS),--plugins $(PLUGINS))

status: ## state, clouds and DNS side by side, differences first; fails when there are any (JSON=1 for programs)
	@$(SANDBOX) status $(WHICH) $(if $(JSON),--json)

catalogue: ## the images and sizes of both clouds that a fleet may name (FIND="aws size t3", REGION=eu-west-1, JSON=1)
	@set -f; $(SANDBOX) catalogue $(WHICH) $(if $(JSON),--json) $(if $(REGION),--region $(REGION)) -- $$FIND

env: ## export lines that point any client, and plain pulumi, at the running local clouds: eval "`make -s env`"
	@$(SANDBOX) env $(WHICH)

# Six workers for two processors, since a test of booted machines waits most of its time; each with whole files (tests/conftest.py
# has their order). Bytecode is kept, whatever the caller's environment says of it: to compile all that is imported takes each worker
# longer than the imports.
test test-fast: export PYTHONDONTWRITEBYTECODE :=
WORKERS ?= 6
PYTEST = $(PY) -m pytest -n $(WORKERS) --dist loadfile

# These wait little: three workers keep two processors busy, and each more collects all tests and imports the SDKs once more.
test-fast: WORKERS = 3
test-fast: prepare ## what needs no machine and no engine: unit tests and local clouds (5 minutes)
	@$(PYTEST) -m "not machines and not engine and not prove"

test: prepare check ## all tests but those of `prove`: unit, local clouds, booted machines, the real engine
	@$(PYTEST) -m "not prove"

# What `make test` shows with shorter times of the agents (tests/timing.py), with those of users.
SHORTENED = $(addprefix tests/integration/test_,crashes.py agents.py alive.py)
prove: prepare ## every slow row of the issues' tables, and the usual times of agents (an hour and a quarter)
	@$(PY) -m pytest -m prove -s
	@ROLLCALL_USUAL_TIMERS=1 $(PY) -m pytest -m "not prove" $(SHORTENED)

bench: prepare ## every bench, one after the other (40 minutes), and docs/benchmarks.md made from them
	@$(PY) -m bench

bench-%: prepare
	@$(PY) -m bench $*

bench-join: ## what joins cost in Route53, beside one write each and the article's way
bench-visible: ## how soon DNS answers, and no longer does, beside a Consul agent (ROUNDS)
bench-fleet: ## up, preview, destroy of 3, 30, 100, 300 machines, beside as many plain resources (SIZES, PREVIEWS)
bench-rest: ## an idle agent's memory, CPU and API calls, beside a Consul agent
bench-client: ## resolve and choose, beside dnspython's bare query (ROUNDS)
bench-start: ## how long `make up` and the imports take, what it holds in memory (COLD=1: from nothing)
bench-joyent: ## 300 Triton machines: time and calls; the usual ways of waiting beside it (ROUNDS, COUNT, LARGE)
bench-storm: ## requests through the edge while machines come and go, beside the same without
bench-rollout: ## 200 simulated machines take a release, beside CodeDeploy's order (MACHINES, SEED)
bench-fuzz: ## what parses foreign input, fed with random mutations (SECONDS_EACH)

soak: prepare ## random operations and faults with all promises checked, for DURATION seconds (7200)
	@$(PY) bench/soak.py

check: format-check lint types shell ## what runs before every commit

format: ## format the Python code
	@$(PY) -m ruff format . && $(PY) -m ruff check --fix --select I .

.PHONY: format-check shell
format-check:
	@$(PY) -m ruff format --check .

lint: ## ruff, and which package may import which (pyproject.toml)
	@$(PY) -m ruff check . && PYTHONPATH=userdata .venv/bin/lint-imports --no-cache

types: ## mypy, strict
	@$(PY) -m mypy

shell: ## shellcheck
	@git ls-files -z '*.sh' | xargs -0 -r shellcheck

reference: ## the tables of docs/configuration.md and the JSON Schema of stack files, from the models
	@$(PY) -m components.config.reference_docs --write

requirements: ## pin requirements again, with hashes and without addresses
	@for each in requirements requirements-dev; do $(PY) -m piptools compile -q --upgrade --generate-hashes --allow-unsafe \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --strip-extras -o $$each.txt $$each.in; done
