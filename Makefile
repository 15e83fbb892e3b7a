# Two commands do all their own set-up, given Rust and Python 3 with pip: `make demo` and `make test`.

CARGO   ?= cargo
COMPOSE ?= docker compose
IMAGE   ?= gatewatch
# Most tests wait for servers; more of them than this at once are too much for two cores.
TEST_THREADS ?= 10
# Whom docker's files in creds/ belong to, and who reads them there.
export GATEWATCH_USER ?= $(shell id -u):$(shell id -g)

.DEFAULT_GOAL := help
.PHONY: help demo test newcomer simulate soak fuzz lint bench reproduce image up down

help: ## Show this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

demo: ## Play one incident on a supercluster of nine servers, beside a running agent
	@scripts/nats-server >/dev/null
	@$(CARGO) run --locked --quiet -- lab demo

test: ## Run every test, on each version of nats-server that is supported
	@for pins in scripts/nats-server.d/*.txt; do scripts/nats-server "$$(basename "$$pins" .txt)" || exit; done
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --locked --no-fail-fast

newcomer: ## Walk the paths of someone who is new, and print how long each step takes
	@scripts/newcomer

simulate: ## Play random histories for ten minutes; GATEWATCH_SIMULATE=2h for longer, GATEWATCH_SEED=7 for one
	GATEWATCH_SIMULATE=$${GATEWATCH_SIMULATE:-10m} $(CARGO) test --locked --lib simulation -- --nocapture

soak: ## Play random faults on real servers for 45 minutes; GATEWATCH_SOAK=2h for longer, GATEWATCH_SEED=7 for one seed
	@for version in 2.10.26 2.12.8 2.15.1; do scripts/nats-server $$version >/dev/null || exit; done
	GATEWATCH_SOAK=$${GATEWATCH_SOAK:-45m} GATEWATCH_SEED=$${GATEWATCH_SEED:-1,2,3,4,5} \
		$(CARGO) test --locked --test real soak -- --nocapture

fuzz: ## Let cargo-fuzz try each target for ten minutes; FUZZ_FOR=60 for less, FUZZ="agent api" for some of them
	@for target in $${FUZZ:-$$(sed -n 's/^    ("\([a-z]*\)", [a-z]*),$$/\1/p' src/fuzz.rs)}; do \
		echo "==> $$target"; mkdir -p "fuzz/found/$$target"; \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --sanitizer none "$$target" "fuzz/found/$$target" "fuzz/corpus/$$target" -- \
			-max_total_time=$${FUZZ_FOR:-600} -rss_limit_mb=1024 -timeout=10 -max_len=65536 -dict=fuzz/words.dict \
			-print_final_stats=1 || exit; \
	done

lint: ## Run what must be clean: format, clippy, docs, scripts, and licences where cargo-deny is there
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets --no-default-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items
	sh -n scripts/nats-server && sh -n scripts/newcomer && sh -n scripts/coverage && sh -n scripts/reproduce && bash -n .ci/run
	if command -v shellcheck; then shellcheck scripts/nats-server scripts/newcomer scripts/coverage scripts/reproduce .ci/run; fi
	if $(CARGO) deny --version 2>/dev/null; then $(CARGO) deny check licenses bans sources; fi

bench: ## Measure
	@scripts/nats-server >/dev/null
	$(CARGO) bench --locked

reproduce: ## Build the release twice, in two folders, and compare
	@scripts/reproduce

image: ## Build the agent's container image
	docker build --tag $(IMAGE) .

up: ## Start the supercluster and the agent in containers, and follow the findings
	$(COMPOSE) up --build --detach
	$(COMPOSE) logs --follow watch

down: ## End them
	$(COMPOSE) down
