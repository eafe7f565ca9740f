# Everything that people and CI run. One build: release, in .build.
SHELL := /bin/bash
SWIFT_BUILD = swift build -c release
BIN = .build/release
APT_PACKAGES = librdkafka-dev libssl-dev pkg-config
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: deps build build-tests test format lint clean

# Debian packages that are missing; needs root or sudo only where something is.
deps:
	@missing=""; for package in $(APT_PACKAGES); do dpkg -s $$package >/dev/null 2>&1 || missing="$$missing $$package"; done; \
	if [ -n "$$missing" ]; then echo "installing$$missing"; $(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq $$missing; fi
	@command -v swift >/dev/null || { echo "swift is not on the PATH: Weir needs Swift 6.3, see https://www.swift.org/install/linux"; exit 1; }

build: deps
	$(SWIFT_BUILD)

build-tests: deps
	$(SWIFT_BUILD) --build-tests

test: build-tests
	swift test -c release --skip-build

format:
	swift format --in-place --recursive Package.swift Sources Tests

lint:
	swift format lint --strict --recursive Package.swift Sources Tests

clean:
	rm -rf .build
