# A bare `make` lists the targets. Everything runs in .venv, made on first use.
.DEFAULT_GOAL := help
.PHONY: help setup demo test check proto golden bench train-tiny train-dtufc profiles clean
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1|/' | column -t -s '|'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"featurewire needs Python 3.11 or newer, found {sys.version.split()[0]}: make PYTHON=python3.12 setup")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(READY)  ## .venv with the project, its extras and the tools, at the versions of constraints.txt

demo: $(READY)  ## three models split over an emulated link: a table, and pictures in out/
	$(BIN)/featurewire-bench demo --out out

test: $(READY)  ## every test, a file of them on each of up to four cores
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile

check: $(READY)  ## ruff, mypy --strict, the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

proto: $(READY)  ## the generated code beside proto/featurewire/v1/*.proto
	cd proto && ../$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. featurewire/v1/*.proto

golden: $(READY)  ## the golden bitstreams of tests/codec/golden (a change of them is a change of the format's version)
	$(BIN)/python tests/codec/make_golden.py

bench: $(READY)  ## rate-distortion of the codecs and a sweep over models, links and codecs, into out/
	$(BIN)/featurewire-bench codecs --out out
	$(BIN)/featurewire-bench sweep --out out

train-tiny: $(READY)  ## train the bundled models again (about two hours of one core) and calibrate their profiles
	$(BIN)/python -m featurewire_models.training.text --out models/featurewire_models/bundled/tiny-llama3
	$(BIN)/python -m featurewire_models.training.vision --out models/featurewire_models/bundled/tiny-dinov2
	$(BIN)/python -m featurewire_models.training.diffusion --out models/featurewire_models/bundled/tiny-sd3
	$(MAKE) profiles

DTUFC := out/dt-ufc
SHIPPED := codec/featurewire_codec/dt_ufc/weights
BFLOAT16 := $(if $(shell grep -m1 -o avx512_bf16 /proc/cpuinfo 2>/dev/null),--bfloat16)
train_dtufc = $(BIN)/python -m featurewire_codec.dt_ufc.training --out $(DTUFC)/$(1) --name $(1) $(BFLOAT16)
# A task's features are few, and its epochs short: a quarter of the hybrid's.
train_task = $(call train_dtufc,$(1)) $(DTUFC)/features/$(2).npy --linear --lambdas 0.02 --epochs $(3)
ship_task = mkdir -p $(SHIPPED)/$(1) && cp $(DTUFC)/$(1)/* $(SHIPPED)/$(1)/

train-dtufc: $(READY)  ## train the DT-UFC networks (two hours of one core); LATENTS=FILE.npz:ARRAY adds latents
	$(BIN)/python -m featurewire_bench.dtufc_features --out $(DTUFC)/features $(if $(LATENTS),--latents $(LATENTS))
	$(call train_dtufc,hybrid) $(DTUFC)/features
	$(call train_task,text,minilm-layers.3,200)
	$(if $(LATENTS),$(call train_task,latents,latents,110))
	cp $(DTUFC)/hybrid/* $(SHIPPED)/
	$(call ship_task,text)
	$(if $(LATENTS),$(call ship_task,latents))

BUNDLED := models/featurewire_models/bundled
DATA := out/calibration
calibrate = $(BIN)/featurewire calibrate $(1) --split $(2) --task $(3) --data $(DATA)/$(4) --limit $(5) \
	--out $(BUNDLED)/$(1)/profiles/$(2)/$(3)

profiles: $(READY)  ## calibrate the profiles of the bundled models at their default split points
	$(BIN)/python -m featurewire_models.training.calibration_data --out $(DATA)
	rm -rf $(BUNDLED)/*/profiles
	$(call calibrate,tiny-llama3,layers.4,generation,text,96)
	$(call calibrate,tiny-dinov2,layers.3,classification,images,384)
	$(call calibrate,tiny-dinov2,layers.3,segmentation,images,384)
	$(call calibrate,tiny-dinov2,layers.3,depth,images,384)
	$(call calibrate,tiny-sd3,latents,text-to-image,prompts.txt,96)

clean:  ## what the other targets made, .venv included
	rm -rf .venv out dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
