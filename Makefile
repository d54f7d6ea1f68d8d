# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
#
# A front end: set-up, QEMU's configure, ninja and the tests. "make help".

SHELL := /bin/sh
.DELETE_ON_ERROR:

BUILD := build
PREFIX ?= /usr/local
DESTDIR ?=
ACCEL ?=
QUICK ?=
# Options for configure, as in: make CONFIGURE_ARGS=--qemu-tarball=FILE
CONFIGURE_ARGS ?= --keep
# Jobs of ninja; its own choice when empty.
JOBS ?=

NINJA = ninja -C $(BUILD) $(if $(JOBS),-j$(JOBS))
# What a user of the hypervisor runs; the rest of QEMU is built when a test or
# "make install" asks for it.
PROGRAMS := qemu-system-x86_64 qemu-img qemu-io qemu-nbd \
            storage-daemon/qemu-storage-daemon
# What functional tests run beside them.
TEST_PROGRAMS := nyx/tests/vfio-user/nyx-vfio-user-server

.PHONY: all
all: configured
	@$(NINJA) $(PROGRAMS)

.PHONY: help
help:
	@echo 'make                build QEMU with Nyx (installs what the build needs)'
	@echo 'make demo           build, then show the main job; ACCEL=kvm|tcg'
	@echo 'make check          build, then run all tests'
	@echo 'make check-unit     only our unit tests'
	@echo 'make check-qtest    only our qtests'
	@echo 'make check-qemu     only QEMU'\''s own tests on our machine'
	@echo 'make check-functional   only the tests with Linux guests'
	@echo 'make check-sanitize unit tests and qtests with ASan, UBSan and TSan'
	@echo 'make bench          measure beside stock QEMU; QUICK=1: in a minute'
	@echo 'make docs           the manual as HTML'
	@echo 'make install        install below PREFIX [$(PREFIX)]; DESTDIR is honoured'
	@echo 'make patches        the extension as a patch series for QEMU'
	@echo 'make clean          remove built files; distclean: also downloads'

# --- Set-up: each step does nothing when it is done already ---

.PHONY: bootstrap configured
bootstrap:
	@scripts/bootstrap build
bootstrap-%:
	@scripts/bootstrap build $*
configured: bootstrap
	@./configure $(CONFIGURE_ARGS)

# --- The main job and the tests ---

.PHONY: demo check check-unit check-qtest check-qemu check-functional
demo: bootstrap-check all
	@ACCEL='$(ACCEL)' scripts/demo $(if $(ACCEL),--accel $(ACCEL))

.PHONY: test-programs
test-programs: all
	@$(NINJA) $(TEST_PROGRAMS)

check: bootstrap-check test-programs
	@scripts/check
check-unit: configured
	@scripts/check unit
check-qtest: configured
	@scripts/check qtest
check-qemu: configured
	@scripts/check qemu
check-functional: bootstrap-check test-programs
	@scripts/check functional

.PHONY: check-sanitize bench
check-sanitize: bootstrap
	@scripts/check-sanitize
bench: bootstrap-check bootstrap-bench all
	@$(NINJA) nyx/tests/bench/nyx-bench-page-table nyx/tests/bench/nyx-bench-dma
	@tests/bench/run $(if $(QUICK),--quick)
	@tests/bench/bench-migration $(if $(QUICK),--quick)

# --- Deliverables ---

.PHONY: docs install patches
docs: bootstrap-docs configured
	@scripts/build-docs
install: configured
	@scripts/install '$(PREFIX)' '$(DESTDIR)'
patches: bootstrap-patches configured
	@scripts/make-patches

.PHONY: clean distclean
clean:
	@if [ -f $(BUILD)/build.ninja ]; then $(NINJA) -t clean; fi
	rm -rf $(BUILD)/asan $(BUILD)/tsan $(BUILD)/docs-html $(BUILD)/docs-doctrees $(BUILD)/patches
distclean:
	rm -rf $(BUILD) qemu-source qemu-source.*
