# Two commands for everybody: `make demo` and `make test`. The rest is for those who work on it. As root, on Debian 12
# with Rust 1.95; what else is needed is installed from Debian's packages on the way.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
CARGO := cargo
export CARGO_TERM_COLOR ?= auto

# What the binary runs (ip is for the tests; the daemon speaks netlink), and what the tests look with.
BUILD_PACKAGES := gcc libc6-dev
DEMO_PACKAGES := $(BUILD_PACKAGES) iproute2 nftables iptables iputils-ping procps
TEST_PACKAGES := $(DEMO_PACKAGES) ethtool docker.io busybox-static bind9-dnsutils python3-venv
DEPLOY_PACKAGES := $(BUILD_PACKAGES) binutils shellcheck python3-venv systemd
BENCH_PACKAGES := $(DEMO_PACKAGES) iperf3 ethtool linux-perf valgrind dnsperf docker.io busybox-static
RIVAL_PACKAGES := $(BUILD_PACKAGES) tinc fastd wireguard-go wireguard-tools
RIVAL_CRATES := boringtun-cli@0.7.1 vpncloud@2.3.0

# Where cargo builds, for the shell.
TARGET := $${CARGO_TARGET_DIR:-$$($(CARGO) metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')}

ENGINES ?= trixie sid
STARTS ?= 200
SEEDS ?= 32
SOAK_MINUTES ?= 60

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

.PHONY: demo
demo: ## three hosts in namespaces, both data paths, explained as it happens (about a minute after the build)
	@$(call install,$(DEMO_PACKAGES))
	set -x
	$(CARGO) build --locked -p weave-cli -p weave-netns-tests --bins
	# Not by cargo run, which selects features of its own and builds much of it again.
	"$(TARGET)/debug/demo"

.PHONY: test
test: ## everything that must hold before a change lands
	@$(call install,$(TEST_PACKAGES))
	$(call lint)
	$(MAKE) --no-print-directory test-clients
	set -x
	# In one command, so that everything is compiled once: by itself, a package's dependencies have other features.
	$(CARGO) test --locked --workspace --no-fail-fast
	$(CARGO) check --locked -p weave-datapath --no-default-features --all-targets
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet
	{ set +x; } 2> /dev/null
	$(MAKE) --no-print-directory test-deploy
	echo "not checked here: licences by cargo-deny (make deny), advisories (their database is outside the registry)"

.PHONY: test-clients
test-clients: ## what the tests with Docker need of PyPI: Compose and docker-py, in target/clients
	@$(call install,$(TEST_PACKAGES))
	clients="$(TARGET)/clients"
	$(call python,$$clients,netns-tests/clients/requirements.txt)

.PHONY: test-deploy
test-deploy: ecs-archive ## the scripts, units, templates and guide for Amazon ECS, against a stand-in for AWS (half a GB in target/deploy)
	@$(call install,$(DEPLOY_PACKAGES))
	target=$$(realpath "$(TARGET)")
	tools="$$target/deploy/tools"
	$(call python,$$tools,deploy/tests/requirements.txt)
	shellcheck -x -a -P deploy/ecs deploy/ecs/setup.sh deploy/ecs/cleanup.sh
	shellcheck deploy/ecs/pack.sh deploy/ecs/data/*.sh deploy/packer/*.sh deploy/tests/*.sh deploy/tests/bin/aws
	deploy/tests/units.sh
	deploy/tests/provision.sh "$$target"
	# Two at a time; each has a cloud of its own.
	export REAL_AWS="$$tools/bin/aws" PYTHONDONTWRITEBYTECODE=1
	printf '%s\n' deploy/tests/test_*.py | xargs -P 2 -n 1 "$$tools/bin/python"

.PHONY: ecs-archive
ecs-archive: ## what hosts of Amazon ECS install: target/weave-rs-ecs.tar.gz (docs/guides/ecs.md)
	@$(call install,$(BUILD_PACKAGES) binutils)
	$(CARGO) build --locked --release -p weave-cli -p weave-shim
	# Static: it is alone in its image. By name of the platform, so that what runs at build time is not.
	RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --locked --release -p weave-demo --target "$$(uname -m)-unknown-linux-gnu"
	deploy/ecs/pack.sh "$(TARGET)"

.PHONY: test-engines
test-engines: test-clients ## the tests with Docker, against engines of newer Debian releases (ENGINES="trixie sid", STARTS=200; a GB in target/engines)
	@$(call install,$(TEST_PACKAGES) debootstrap)
	$(CARGO) test --locked --workspace --features weave-netns-tests/engines --no-run
	for suite in $(ENGINES); do
	  root="$(TARGET)/engines/$$suite"
	  if [ ! -e "$$root.made" ]; then
	    rm -rf "$$root"
	    debootstrap --variant=minbase --include=docker.io,ca-certificates,iptables "$$suite" "$$root" > "$$root.log"
	    touch "$$root.made"
	  fi
	  echo "$$suite: $$(chroot "$$root" dockerd --version), $$(chroot "$$root" runc --version | head -n 1)"
	  STARTS=$(STARTS) WEAVE_ENGINE_ROOT="$$root" $(CARGO) test --locked --workspace --features weave-netns-tests/engines \
	    --no-fail-fast --test docker --test docker_clients --test docker_engines --test docker_names --test docker_network --test docker_start
	done

.PHONY: check
check: ## what needs no root: format, lints, documents, and the tests without namespaces
	@$(call lint)
	set -x
	$(CARGO) test --locked -p weave-mesh
	$(CARGO) test --locked -p weave-datapath --no-default-features
	$(CARGO) test --locked -p weave-netns-tests --test tidy --test purity
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet

.PHONY: bench
bench: ## throughput, latency, cost, and the thousand-peer simulation, with raw output; beside it what `rivals` installed
	@$(call install,$(BENCH_PACKAGES))
	set -x
	$(CARGO) build --locked --release -p weave-cli -p weave-shim -p weave-bench
	# Not by cargo run, which selects features of its own and builds much of it again.
	"$(TARGET)/release/weave-bench"

.PHONY: rivals
rivals: ## what bench measures us against, where it is installed: user-space overlays from Debian and the crate registry
	@$(call install,$(RIVAL_PACKAGES))
	set -x
	$(CARGO) install --locked --root "$(TARGET)/rivals" --target-dir "$(TARGET)/rivals/target" $(RIVAL_CRATES)

.PHONY: soak
soak: ## the long ones: fresh seeds for the simulator (SEEDS=n), a lossy wire without false alarm (as root, SOAK_MINUTES=n), fuzzing of every decoder where cargo-fuzz is installed
	$(CARGO) build --locked --release -p weave-cli
	binary="$(TARGET)/release/weave-rs"
	for run in $$(seq $(SEEDS)); do
	  seed=$$RANDOM$$RANDOM
	  echo "weave-rs sim --peers 60 --seed $$seed --loss 0.05"
	  "$$binary" sim --peers 60 --seed $$seed --loss 0.05 > /dev/null
	done
	$(CARGO) build --locked --workspace --bins
	REPLACEMENTS=3000 $(CARGO) test --locked -q --release -p weave-mesh --test years -- --nocapture
	MACHINES=300 $(CARGO) test --locked -q --release -p weave-mesh --test cloud -- --nocapture
	# Ten thousand replacements, half of them on each core.
	seq 2 | REPLACEMENTS=5000 xargs -P 2 -I {} env SEED={} $(CARGO) test --locked -q --release -p weave-mesh --test cloud hundreds -- --nocapture
	SOAK_MINUTES=$(SOAK_MINUTES) $(CARGO) run --locked -q -p weave-netns-tests --bin soak
	SEEDS=$$(( $(SEEDS) * 100 )) $(CARGO) test --locked --release -p weave-mesh --test addresses
	WEAVE_FUZZ_RUNS=1000000 $(CARGO) test --locked --release -p weave-router --test fuzz -- --nocapture
	WEAVE_FUZZ_RUNS=1000000 $(CARGO) test --locked --release -p weave-aws --test fuzz -- --nocapture
	if $(CARGO) fuzz --version > /dev/null 2>&1; then
	  for crate in mesh datapath router aws; do
	    for target in $$(cd $$crate && $(CARGO) fuzz list); do
	      (cd $$crate && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run $$target -- -max_total_time=600)
	    done
	  done
	else
	  echo "no cargo-fuzz: decoders not fuzzed (cargo install cargo-fuzz)"
	fi

.PHONY: stats
stats: ## how long files and functions are, how much of each crate is tests, which modules lean on each other in a circle
	@$(CARGO) test --locked -q -p weave-netns-tests --test house -- --nocapture no_circle

.PHONY: deny
deny: ## licences, bans and sources of all dependencies, by cargo-deny (installs it: about ten minutes)
	$(CARGO) deny --version > /dev/null 2>&1 || $(CARGO) install --locked cargo-deny
	$(CARGO) deny check bans licenses sources

# A toolchain of rustup's minimal profile has neither tool; where they cannot be added, it is said and the tests go on.
define lint
if $(CARGO) fmt --version > /dev/null 2>&1 && $(CARGO) clippy --version > /dev/null 2>&1 \
  || rustup component add rustfmt clippy; then
  set -x
  $(CARGO) fmt --all --check
  $(CARGO) clippy --locked --workspace --all-targets -- -D warnings
  { set +x; } 2> /dev/null
else
  echo "NOT CHECKED: format and lints, since this toolchain has no rustfmt and clippy" >&2
fi
endef

# python,DIRECTORY,FILE: an environment of Python there, with what the file says.
define python
if ! cmp -s $(2) "$(1)/installed"; then
  python3 -m venv --clear "$(1)"
  "$(1)/bin/pip" install --quiet --disable-pip-version-check --requirement $(2)
  cp $(2) "$(1)/installed"
fi
endef

# install,PACKAGES: those that are missing, by apt; nothing is asked and nothing is done when all are there.
define install
missing=""
for package in $(1); do
  dpkg-query -W -f='$${db:Status-Status}' "$$package" 2>/dev/null | grep -qx installed || missing+=" $$package"
done
if [ -n "$$missing" ]; then
  command -v apt-get > /dev/null || { echo "not a Debian: install$$missing by hand" >&2; exit 1; }
  [ "$$(id -u)" = 0 ] || { echo "installing$$missing needs root" >&2; exit 1; }
  echo "installing$$missing"
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -qq -y --no-install-recommends $$missing > /dev/null 2>&1 \
    || { apt-get update -qq && apt-get install -qq -y --no-install-recommends $$missing > /dev/null; }
fi
endef
