# Lamplighter. `make` alone prints what there is.
#   make demo STORE=redis BROKER=mosquitto SPEED=10     the demo on the real servers, ten times as fast
STORE  ?=
BROKER ?=
SPEED  ?=
NAME   ?=
# Rust's own tools and Debian's servers are not on everybody's path.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin
demo_flags = $(if $(STORE),--store $(STORE)) $(if $(BROKER),--broker $(BROKER)) $(if $(SPEED),--speed $(SPEED))

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-net verify fix bench doc clean

help:     ## print this list
	@sed -n 's/^\([a-z-]*\): .*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16
setup:    ## install the Debian packages that are missing (starts no service)
	@.ci/setup
demo: setup  ## run the smart home, break it, check that it holds (STORE=redis BROKER=mosquitto SPEED=10)
	cargo build --locked --package smart-home --bins
	cargo run --locked --package smart-home --bin demo -- $(demo_flags)
test: setup  ## pass every test, those against a real Redis and Mosquitto included (NAME=part of a name)
	cargo test --locked --workspace $(NAME)
test-net: setup  ## pass the tests on several machines, as network namespaces; as root (NAME=part of a name)
	@.ci/test-net $(NAME)
verify: setup  ## format, lints, documentation, licences; never writes to the sources
	@.ci/verify
fix: setup  ## format, and mend what clippy can mend
	cargo clippy --fix --allow-dirty --allow-staged --workspace --all-targets && cargo fmt --all
bench: setup  ## measure beside the limits of this machine, into target/bench/summary.json
	cargo build --locked --release --package lamplighter-tests --package hello --package smart-home --bins
	cargo run --locked --release --package lamplighter-tests --bin bench
doc: setup  ## build the documentation, into target/doc/lamplighter
	cargo doc --locked --workspace --no-deps
clean:    ## delete what was built
	cargo clean
