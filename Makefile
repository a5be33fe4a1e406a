# One verb a line: `make help` lists them. CI runs `make test` and nothing else.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# The simulator silently stops simulating when these are exported; it refuses to build, and says so.
unexport RUSTFLAGS CARGO_BUILD_RUSTFLAGS
SEEDS ?= 0..4
# Seeds nobody has run before; printed with each run, so that a violation replays.
FRESH := $(shell echo $$((10000 + RANDOM * 10)))
FRESH_SEEDS ?= $(FRESH)..$(shell echo $$(($(FRESH) + 4)))
FUZZ_SECONDS ?= 600
FILE ?= tests/data/cases/network_server_cases.json
FUZZ_TARGETS := phy_payload mac_commands semtech_udp mqtt_packet commands scenario peer_frames peer_messages
SIM := cargo sim

.PHONY: help demo test soak lint bench fuzz cases setup sim-test sim-bench unit

help: ## these lines
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: ## three nodes with simulated gateways and devices; the leader is killed; until Ctrl-C
	cargo run --release --bin tern -- demo --nodes 3

test: setup lint unit sim-test ## everything that must pass (installs what it needs)

setup: ## Debian packages that the tests use
	@deploy/setup.sh

lint: ## formatting, clippy, documentation
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked --quiet

unit: ## unit, property, process and client tests; corpus replay; tidiness and purity of the tree
	cargo test --locked

sim-test: ## the simulator's own tests, every scenario on fixed and fresh seeds, planted bugs until caught
	cargo sim-lint
	cargo sim-test --quiet
	$(SIM) canary
	@for scenario in scenarios/*.toml; do \
	  $(SIM) $$scenario --seeds $(SEEDS) && $(SIM) $$scenario --seeds $(FRESH_SEEDS) || exit 1; \
	done
	$(SIM) pinned scenarios/*.toml
	$(SIM) meta scenarios/first_light.toml --seed 1
	$(SIM) meta scenarios/swarm.toml --seed 1
	$(SIM) sabotage --until-caught

soak: ## the long runs: hours; resumable; one table at the end
	@deploy/soak.sh

sim-bench: ## simulated seconds and messages per CPU second, four profiles
	$(SIM) bench

bench: ## criterion: parse, MIC, decrypt, apply, ingest
	cargo bench -p benches

fuzz: ## every fuzz target for FUZZ_SECONDS (needs a nightly toolchain and cargo-fuzz)
	@for target in $(FUZZ_TARGETS); do \
	  cargo +nightly fuzz run --fuzz-dir fuzz $$target -- -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=4096 || exit 1; \
	done

cases: ## FILE=cases.json: run a file of server cases against a fresh node
	cargo run --locked --bin tern -- demo cases $(FILE)
