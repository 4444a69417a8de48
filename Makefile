# Everything a developer does here. `make` alone lists it.
.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-print-directory

STACK := .venv/bin/python -m local_stack
IMPORT := .venv/bin/python -m local_stack.importing
# arguments for pytest, for example: make test ARGS='-k trend -x'
ARGS ?=
# how many tests run at a time; 0: one, in the process itself
JOBS := $(if $(filter command line,$(origin JOBS)),$(JOBS),2)
# for make logs: one service (SERVICE=gateway), how many lines (LINES=200), FOLLOW=1 to go on
SERVICE ?=
FOLLOW ?=
# deletes data, so it counts only where it was asked for
FORCED := $(if $(filter command line,$(origin FORCE)),$(if $(filter-out 0 no false,$(FORCE)),--force))
LOG_LINES := $(if $(filter command line,$(origin LINES)),$(LINES),40)

.PHONY: help bootstrap up down reset status logs env import export import-dump \
	test test-thorough check audit bench bench-import bench-ratings bench-recommendations bench-compute bench-bulk \
	bench-scale bench-search bench-search-upkeep format lint typecheck imports lock

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \t\2/p' Makefile | expand -t 20

bootstrap: ## install what is needed (every target here does it)
	@sh deploy/bootstrap.sh

up: bootstrap ## start servers and services, load the sample catalogue, wait until all serves
	@$(STACK) up

down: bootstrap ## stop everything; the data are kept
	@$(STACK) down

reset: bootstrap ## stop everything and delete all data
	@$(STACK) reset

status: bootstrap ## what runs, and what happens by the clock
	@$(STACK) status

logs: bootstrap ## the last log lines (SERVICE=gateway LINES=200 FOLLOW=1)
	@$(STACK) logs $(SERVICE) --lines $(LOG_LINES) $(if $(FOLLOW),--follow)

env: bootstrap ## the connection settings as KEY=value lines, with the passwords
	@$(STACK) env

token: bootstrap ## sign in as the administrator; the header for: make -s token | curl -H @- …
	@$(STACK) token

# File names are taken from the environment, where make puts them: they may hold anything.
# So are passwords and API keys, which never are part of a command line.
import: bootstrap ## films or ratings: FILE=films.csv [FORMAT=auto DRY_RUN=1 GATEWAY_URL=…]; JOB=<id> [CANCEL=1 REJECTS=file]
	@gateway="$${GATEWAY_URL:-$$($(STACK) env | sed -n 's/^GATEWAY_URL=//p')}"; \
	if [ -n "$${JOB:-}" ]; then \
		exec $(IMPORT) "$$gateway" --job "$$JOB" $${REJECTS:+--rejects "$$REJECTS"} \
			$(if $(filter-out 0 no false,$(CANCEL)),--cancel); \
	fi; \
	if [ -z "$${FILE:-}" ]; then echo "usage: make import FILE=films.csv" >&2; exit 1; fi; \
	exec $(IMPORT) "$$gateway" --format "$${FORMAT:-auto}" $(if $(filter-out 0 no false,$(DRY_RUN)),--dry-run) -- "$$FILE"

export: bootstrap ## everything that the stack holds, in one file (DUMP=moviemetric.tar.gz)
	@$(STACK) export $${DUMP:+-- "$$DUMP"}

import-dump: bootstrap ## make a stack from such a file (DUMP=…; FORCE=1 deletes what is there first)
	@if [ -z "$${DUMP:-}" ]; then echo "usage: make import-dump DUMP=<file>" >&2; exit 1; fi; \
	exec $(STACK) import-dump $(FORCED) -- "$$DUMP"

test: bootstrap ## every test, two at a time, on servers of their own (ARGS='-k trend' JOBS=2)
	@.venv/bin/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

test-thorough: bootstrap ## the same with whole data sets, and what takes minutes
	@THOROUGH=1 .venv/bin/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: lint typecheck imports audit test ## everything that must hold before a change is merged

lint: bootstrap ## ruff: rules and format
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check

typecheck: bootstrap node_modules/.package-lock.json ## pyright, strict
	@node_modules/.bin/pyright

imports: bootstrap ## import-linter: who may import whom
	@.venv/bin/lint-imports

audit: bootstrap ## pip-audit: known vulnerabilities of the locked packages
	@.venv/bin/python -m local_stack.audit requirements.lock deploy/audit-answers.txt

format: bootstrap ## bring the code into shape
	@.venv/bin/ruff check --fix
	@.venv/bin/ruff format

bench: bootstrap ## measure; needs a quiet machine
	@.venv/bin/python tests/bench/run.py

bench-import: bootstrap ## a million rows uploaded, beside a bare COPY (IMPORTED_ROWS=1000000)
	@.venv/bin/python tests/bench/run.py imports

bench-ratings: bootstrap ## MovieLens' ratings uploaded, until every service has had them (RATINGS_FOLDER=…)
	@.venv/bin/python tests/bench/run.py ratings

bench-recommendations: bootstrap ## ours beside other models (MOVIELENS=folder with ml-100k and ml-1m)
	@if [ -z "$${MOVIELENS:-}" ]; then echo "usage: make bench-recommendations MOVIELENS=<folder>" >&2; exit 1; fi; \
	.venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes --no-deps \
		-r requirements-bench.lock && \
	exec .venv/bin/python tests/bench/recommendations.py "$$MOVIELENS"

bench-scale: bootstrap ## a million films, ten million views (SCALE_FILMS=… SCALE_VIEWS=…)
	@.venv/bin/python tests/bench/scale.py

bench-compute: bootstrap ## MovieLens from event to recommendations: time, memory (MOVIELENS=folder)
	@if [ -z "$${MOVIELENS:-}" ]; then echo "usage: make bench-compute MOVIELENS=<folder>" >&2; exit 1; fi; \
	exec .venv/bin/python tests/bench/compute.py "$$MOVIELENS"

bench-bulk: bootstrap ## 2,000 films from a TMDB that limits, fails and hangs
	@.venv/bin/python tests/bench/run.py bulk

bench-search: bootstrap ## relevance and speed of both search engines (SEARCH_SIZES=… MEILISEARCH_BINARY=…)
	@.venv/bin/python tests/bench/search.py

bench-search-upkeep: bootstrap ## from a changed film to its hit; rebuilding under traffic (UPKEEP_FILMS=… MEILISEARCH_BINARY=…)
	@.venv/bin/python tests/bench/search_upkeep.py

EXPORT := .venv/bin/uv export --quiet --all-packages --no-emit-workspace --no-header \
	--format requirements.txt

lock: bootstrap ## resolve the dependencies anew and write the lock files
	@.venv/bin/uv lock
	@$(EXPORT) --all-groups --no-group bench -o requirements.lock
	@$(EXPORT) --no-dev --group build -o requirements-runtime.lock
	@.venv/bin/uv pip compile --quiet --group bench --constraints requirements.lock --universal \
		--generate-hashes --no-header --no-annotate -o requirements-bench.lock

node_modules/.package-lock.json: package.json package-lock.json
	@npm ci --no-audit --no-fund
	@touch $@
