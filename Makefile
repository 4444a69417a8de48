# Everything a developer does here. `make` alone lists it.
.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-print-directory

STACK := .venv/bin/python -m local_stack
# arguments for pytest, for example: make test ARGS='-k trend -x'
ARGS ?=
# for make logs: one service (SERVICE=gateway), how many lines (LINES=200), FOLLOW=1 to go on
SERVICE ?=
FOLLOW ?=
LOG_LINES := $(if $(filter command line,$(origin LINES)),$(LINES),40)

.PHONY: help bootstrap up down reset status logs env \
	test check bench format lint typecheck imports lock

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \t\2/p' Makefile | expand -t 18

bootstrap: ## install what is needed (every target here does it)
	@sh deploy/bootstrap.sh

up: bootstrap ## start servers and services, load the sample catalogue, wait until all serves
	@$(STACK) up

down: bootstrap ## stop everything; the data are kept
	@$(STACK) down

reset: bootstrap ## stop everything and delete all data
	@$(STACK) reset

status: bootstrap ## what runs
	@$(STACK) status

logs: bootstrap ## the last log lines (SERVICE=gateway LINES=200 FOLLOW=1)
	@$(STACK) logs $(SERVICE) --lines $(LOG_LINES) $(if $(FOLLOW),--follow)

env: bootstrap ## the connection settings as KEY=value lines
	@$(STACK) env

test: bootstrap ## every test, on servers of its own (ARGS='-k trend')
	@.venv/bin/python -m pytest $(ARGS)

check: lint typecheck imports test ## everything that must hold before a change is merged

lint: bootstrap ## ruff: rules and format
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check

typecheck: bootstrap node_modules/.package-lock.json ## pyright, strict
	@node_modules/.bin/pyright

imports: bootstrap ## import-linter: who may import whom
	@.venv/bin/lint-imports

format: bootstrap ## bring the code into shape
	@.venv/bin/ruff check --fix
	@.venv/bin/ruff format

bench: bootstrap ## measure; needs a quiet machine
	@.venv/bin/python tests/bench/run.py

EXPORT := .venv/bin/uv export --quiet --all-packages --no-emit-workspace --no-header \
	--format requirements.txt

lock: bootstrap ## resolve the dependencies anew and write both lock files
	@.venv/bin/uv lock
	@$(EXPORT) --all-groups -o requirements.lock
	@$(EXPORT) --no-dev --group build -o requirements-runtime.lock

node_modules/.package-lock.json: package.json package-lock.json
	@npm ci --no-audit --no-fund
	@touch $@
