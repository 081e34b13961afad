# The front door. `make` alone says what there is.

SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# What `make bench...` asks of wrk and of the server; empty means the program's own default.
THREADS ?=
CONNECTIONS ?=
DURATION ?=
CLOSE ?=
WORKERS ?=
PORT ?=
ARGS ?=
# The same for `make bench` alone.
ROUNDS ?=
SLICE ?=
PIN ?=

load = $(if $(THREADS),--threads $(THREADS)) $(if $(CONNECTIONS),--connections $(CONNECTIONS)) \
       $(if $(DURATION),--duration $(DURATION)) $(if $(filter-out 0 no false,$(CLOSE)),--close)
slices = $(if $(THREADS),--threads $(THREADS)) $(if $(CONNECTIONS),--connections $(CONNECTIONS)) \
         $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SLICE),--slice $(SLICE)) \
         $(if $(filter-out 0 no false,$(CLOSE)),--close) $(if $(filter-out 0 no false,$(PIN)),--pin)
workers = $(if $(WORKERS),--workers $(WORKERS)) $(ARGS)
options = $(strip $(if $(PORT),--port $(PORT)) $(workers))
server = $(if $(options),-- $(options))
# A server takes 20 seconds to build: the first `make bench-shared` builds only the one that it measures.
build = cargo build --release --locked --bin loadtest
loadtest = cargo run --release --locked --quiet --package loadtest --
results = target/loadtest

# Of `make matrix` and `make lab`: QUICK=1 for the short form, RESUME=1 to go on with a run that was
# interrupted. Of `make lab`: NAMES="post hash" for some experiments. Only a whole book is published, and
# only with a matrix. All of it is of `make servers` as well: NAMES="nginx gunicorn".
NAMES ?=
QUICK ?=
RESUME ?=
# For how many hours `make soak` goes on with faults by chance.
SOAK_HOURS ?= 0.02
quick = $(if $(filter-out 0 no false,$(QUICK)),--quick)
# A run of a part does not replace the result of a whole run.
short = $(if $(quick),-part)
part = $(if $(NAMES),-part,$(short))
resume = $(if $(filter-out 0 no false,$(RESUME)),--resume)
publish = cargo run --release --locked --quiet --package loadtest --bin publish --

# One word for the shell, whatever is in it.
quoted = '$(subst ','\'',$(strip $(1)))'

ifneq ($(shell uname -s),Linux)
$(error This project runs on Linux only: it reads /proc and shows what Linux does with SO_REUSEPORT)
endif
ifeq ($(shell command -v cargo),)
$(error cargo is missing: install Rust, for instance from https://rustup.rs)
endif

.PHONY: help
help: ## say what there is
	@echo "make TARGET [VARIABLE=value ...]"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null || \
	 sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1 - \2/p' $(MAKEFILE_LIST)
	@echo
	@echo "bench targets take THREADS=12 CONNECTIONS=100 WORKERS=4 CLOSE=1, and ARGS='...' for more server"
	@echo "options, such as ARGS='--handler-cost 70us'; bench-shared and bench-reuseport also DURATION=10s"
	@echo "and PORT=8080, bench also ROUNDS=40, SLICE=1s and PIN=1."
	@echo "matrix takes QUICK=1 (10 minutes) and RESUME=1, lab QUICK=1 (3 minutes), RESUME=1 and NAMES='post hash'."
	@echo "servers takes QUICK=1 (8 minutes), RESUME=1 and NAMES='nginx gunicorn'; a whole run is published, too."
	@echo "A whole run of lab takes over the result of 'make matrix'; if there is one, 'publish' then rewrites"
	@echo "what git tracks: README.md, loadtest/RESULTS.md and .json, loadtest/results.svg."
	@echo "What is missing (wrk, say) is installed with the system's package manager, which is said before."

.PHONY: bench-shared
bench-shared: wrk ## the post's load on one listening socket shared by all workers
	@$(build) --bin shared-fd-server
	@$(loadtest) bench shared $(load) --json $(results)/bench-shared.json $(server)

.PHONY: bench-reuseport
bench-reuseport: wrk ## the post's load on a listening socket for each worker
	@$(build) --bin reuseport-server
	@$(loadtest) bench reuseport $(load) --json $(results)/bench-reuseport.json $(server)

.PHONY: bench
bench: wrk build ## is one faster here? both compared slice by slice, with a report to look at
	@$(loadtest) compare $(call quoted,shared $(workers)) $(call quoted,reuseport $(workers)) \
	    $(slices) --json $(results)/compare.json --html $(results)/report.html

.PHONY: matrix
matrix: wrk build ## every policy in every workload, with a report (60 minutes, 10 with QUICK=1; root for one)
	@$(loadtest) matrix $(quick) $(resume) \
	    --json $(results)/matrix$(short).json --html $(results)/matrix$(short).html

.PHONY: lab
lab: wrk build ## what others claim, re-run here: a book, and the README's answer (15 minutes; root for parts)
	@$(loadtest) lab $(NAMES) $(quick) $(resume) \
	    --json $(results)/lab$(part).json --html $(results)/lab$(part).html
	@$(if $(part)$(if $(wildcard $(results)/matrix.json),,none),,\
	    $(publish) --lab $(results)/lab.json .)

.PHONY: servers
servers: wrk python3 build ## what the world's servers do: installed below target/, and measured (40 minutes, 8 with QUICK=1)
	@$(loadtest) servers $(foreach name,$(NAMES),$(call quoted,$(name))) $(quick) $(resume) \
	    --json $(results)/servers$(part).json --html $(results)/servers$(part).html
	@$(if $(part),,$(publish) --servers $(results)/servers.json .)

.PHONY: trust
trust: wrk build ## can `make bench` be trusted here? 80 verdicts on what is known beforehand (50 minutes)
	@$(loadtest) self-check --json $(results)/self-check.json

.PHONY: cost
cost: wrk nginx perf build ## instructions per request of each server, beside nginx
	@$(loadtest) cost --json $(results)/cost.json

.PHONY: losses
losses: build ## requests lost when workers are killed and replaced, for each strategy (KILLS=10, root)
	@.ci/losses "$${CARGO_TARGET_DIR:-target}/release/loadtest"

.PHONY: diagnose-validation
diagnose-validation: build ## does `loadtest diagnose` name what is wrong? every cause 20 times, and 20 healthy servers (20 minutes)
	@DIAGNOSE_VALIDATION=$(CURDIR)/loadtest/docs/diagnose-validation.md \
	    cargo test --release --locked --package loadtest --test suite -- diagnose::validation
	@$(publish) --from-results .

.PHONY: build
build: ## build the two servers and loadtest, optimized
	@$(build) --bin shared-fd-server --bin reuseport-server

# Three times as many tests at a time as there are cores: most of a test with processes is waiting.
at_a_time := RUST_TEST_THREADS=$(shell echo $$((3 * $$(nproc))))

.PHONY: test
test: wrk ## all tests; what this machine lacks is skipped, and said
	cargo build --locked --workspace
	$(at_a_time) cargo test --locked --workspace

.PHONY: test-all
test-all: wrk nginx node gunicorn perf strace python3 prometheus-client setpriv systemd-socket-activate chromium ## all tests, after installing what they need; nothing is skipped
	cargo build --locked --workspace
	NO_SKIPS=1 $(at_a_time) cargo test --locked --workspace

.PHONY: soak
soak: wrk ## the long forms of the tests: a million requests, many reloads, and faults by chance (SOAK_HOURS=1: for an hour)
	cargo build --release --locked --workspace
	SOAK=1 SOAK_HOURS=$(SOAK_HOURS) FUZZ_REQUESTS=100000 cargo test --release --locked --package loadtest --test suite -- soak:: fuzz:: clients::a_thousand

.PHONY: lint
lint: ## formatting, clippy and documentation, without a warning
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items

.PHONY: clean
clean: ## remove what was built and measured
	cargo clean

# Programs from the system. The package's name where it is not the command's: apt-get, others.
.PHONY: wrk nginx node gunicorn perf strace python3 prometheus-client setpriv systemd-socket-activate chromium
wrk:
	@.ci/need wrk wrk wrk
nginx:
	@.ci/need nginx nginx-light nginx
node:
	@.ci/need node nodejs nodejs
gunicorn:
	@.ci/need gunicorn gunicorn gunicorn
perf:
	@.ci/need perf linux-perf perf
strace:
	@.ci/need strace strace strace
python3:
	@.ci/need python3 python3 python3
# A library, and no command. Where it is no package, its test takes it from PyPI.
prometheus-client: python3
	@python=/usr/bin/python3; [ ! -x $$python ] || $$python -c 'import prometheus_client' 2>/dev/null \
	    || ! command -v apt-get >/dev/null || { \
	        install="apt-get install --yes --no-install-recommends python3-prometheus-client"; \
	        echo "prometheus_client for Python is missing; installing it: $$install" >&2; \
	        [ "$$(id -u)" -eq 0 ] || install="sudo $$install"; \
	        $$install >/dev/null || echo "it could not be installed; the test tries PyPI" >&2; }
setpriv:
	@.ci/need setpriv util-linux util-linux
systemd-socket-activate:
	@.ci/need systemd-socket-activate systemd systemd
chromium:
	@.ci/need chromium chromium chromium
