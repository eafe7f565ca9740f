# Everything that people and CI run. One build in .build; CONFIG=release for speed, which takes several minutes longer the first time.
SHELL := /bin/bash
CONFIG ?= debug
SWIFT_BUILD = swift build -c $(CONFIG)
BIN = .build/$(CONFIG)
APT_PACKAGES = librdkafka-dev libssl-dev zlib1g-dev pkg-config
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: deps build build-tests test demo soak format lint proto clean

# Debian packages that are missing; needs root or sudo only where something is.
deps:
	@missing=""; for package in $(APT_PACKAGES); do dpkg -s $$package >/dev/null 2>&1 || missing="$$missing $$package"; done; \
	if [ -n "$$missing" ]; then echo "installing$$missing"; $(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq $$missing; fi
	@command -v swift >/dev/null || { echo "swift is not on the PATH: Weir needs Swift 6.3, see https://www.swift.org/install/linux"; exit 1; }

build: deps
	$(SWIFT_BUILD)

build-tests: deps
	$(SWIFT_BUILD) --build-tests

# One test at a time: simulations that use every core would starve the tests that wait for processes and brokers.
test: build-tests
	swift test -c $(CONFIG) --skip-build --no-parallel

# Runs the telemetry job on two TaskManagers, kills one, and compares every window with a plain fold of the input.
demo: build
	$(BIN)/weir-demo

# The simulations with thousands of seeds.
soak: build-tests
	WEIR_SIMULATION_SEEDS=5000 swift test -c $(CONFIG) --skip-build --no-parallel --filter Simulation

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
