# Everything that people and CI run. One build in .build; CONFIG=release for speed, which takes several minutes longer the first time.
SHELL := /bin/bash
CONFIG ?= debug
SWIFT_BUILD = swift build -c $(CONFIG) $(LINK_$(CONFIG))
# What is built for release runs on hosts without Swift, and a process keeps 5 MB less in memory than with the shared libraries.
LINK_release = --static-swift-stdlib
BIN = .build/$(CONFIG)
APT_PACKAGES = librdkafka-dev libssl-dev zlib1g-dev pkg-config kcat python3-venv
CLIENTS = .build/clients
CLIENT_PACKAGES = Tests/WeirBrokerTests/Clients/requirements.txt
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: deps build build-tests test test-kafka demo bench soak format lint proto clean

# Debian packages that are missing; needs root or sudo only where something is. Then the Kafka clients of the broker's tests, from PyPI.
deps: packages $(CLIENTS)/installed

$(CLIENTS)/installed: $(CLIENT_PACKAGES) | packages
	@python3 -m venv --clear $(CLIENTS) && $(CLIENTS)/bin/pip install --quiet --disable-pip-version-check -r $(CLIENT_PACKAGES) && touch $@

.PHONY: packages
packages:
	@missing=""; for package in $(APT_PACKAGES); do dpkg -s $$package >/dev/null 2>&1 || missing="$$missing $$package"; done; \
	if [ -n "$$missing" ]; then echo "installing$$missing"; $(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq $$missing; fi
	@command -v swift >/dev/null || { echo "swift is not on the PATH: Weir needs Swift 6.3, see https://www.swift.org/install/linux"; exit 1; }

build: deps
	$(SWIFT_BUILD)

build-tests: deps
	swift build -c $(CONFIG) --build-tests

# One test at a time: simulations that use every core would starve the tests that wait for processes and brokers.
test: build-tests
	.ci/swift-test -c $(CONFIG) --skip-build --no-parallel

# The Kafka tests, against the broker at KAFKA_BOOTSTRAP if that is set: its topics are made and deleted under names of their own. Tests in
# which something goes wrong in the broker take the embedded one in any case.
test-kafka: build-tests
	KAFKA_BOOTSTRAP=$(KAFKA_BOOTSTRAP) .ci/swift-test -c $(CONFIG) --skip-build --no-parallel --filter 'WeirKafkaTests|ClusterTests'

# Runs the telemetry job on two TaskManagers, kills one, and compares every window with a plain fold of the input.
demo: build
	$(BIN)/weir-demo

# Measures; the first time it builds for release. ONLY=name,... runs some; "name." means all that begin so.
bench: deps
	@swift build -c release $(LINK_release) >&2
	@.build/release/WeirBench $(if $(ONLY),--only $(ONLY))

# The simulations with thousands of seeds, kills at random moments, 20 of each kind, the broker killed 50 times, exactly-once on Kafka with
# 100 seeds, and 200 restarts that must leave nothing behind.
soak: build-tests
	WEIR_CHAOS_STRIKES=20 WEIR_CHAOS_RATE=40000 WEIR_CHAOS_DEVICES=5000 .ci/swift-test -c $(CONFIG) --skip-build --no-parallel --filter ChaosTests
	WEIR_SIMULATION_SEEDS=5000 .ci/swift-test -c $(CONFIG) --skip-build --no-parallel --filter Simulation
	WEIR_EXACTLY_ONCE_SEEDS=100 .ci/swift-test -c $(CONFIG) --skip-build --no-parallel --filter RandomExactlyOnceTests
	WEIR_RESTARTS=200 .ci/swift-test -c $(CONFIG) --skip-build --no-parallel --filter RestartLeakTests
	WEIR_BROKER_KILLS=50 .ci/swift-test -c $(CONFIG) --skip-build --no-parallel --filter CrashTests

format:
	swift format --in-place --recursive Package.swift Sources Tests

lint:
	swift format lint --strict --recursive Package.swift Sources Tests

# Needs protoc, and protoc-gen-swift of swift-protobuf (swift build --product protoc-gen-swift) on the PATH.
proto:
	protoc --proto_path=proto-docs --swift_opt=Visibility=Package --swift_opt=UseAccessLevelOnImports=true \
	  --swift_out=Sources/WeirWire/Generated proto-docs/weir.proto

clean:
	rm -rf .build
