# The one door to the workbook. `make` alone lists what there is; `make demo` and `make test` set everything up first.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench lab clean

UV_VERSION := 0.13.9
PYTHON ?= python3.11 python3.12 python3 python

# Inside an active conda environment everything goes there; conda's base environment is never touched.
ENV := .venv
ifneq ($(CONDA_PREFIX),)
ifneq ($(CONDA_DEFAULT_ENV),base)
ENV := $(CONDA_PREFIX)
PYTHON := $(CONDA_PREFIX)/bin/python
endif
endif
BIN := $(ENV)/bin

# Says which copy of the workbook the environment serves: in a moved or second copy the set-up is done again.
STAMP := $(ENV)/.workbook-is-set-up
ifneq ($(shell cat '$(STAMP)' 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

help:  ## this list
	@echo "The backbone workbook. Everything is set up by itself on the first call of any of these:"
	awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' Makefile
	echo "Papermill and the command are in $(BIN): $(BIN)/workbook --help"

setup: $(STAMP)  ## install everything into .venv, or into the active conda environment

# Version, and what is missing to compile against it; runs on any Python.
PROBE := import os, sys, sysconfig; \
  header = os.path.join(sysconfig.get_paths()["include"], "Python.h"); \
  print("%d.%d%s" % (sys.version_info[:2] + ("" if os.path.exists(header) else " without its headers (Python.h)",)))
# mmcv-full compiled without its operators, or against another torch, imports well and fails in training.
VERIFY := import sys, torch; from mmcv.ops import RoIAlign, nms; \
  boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 29, 29]]); \
  kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)[1].tolist(); \
  bins = RoIAlign(2)(torch.ones(1, 1, 8, 8), torch.tensor([[0.0, 1, 1, 7, 7]])); \
  sys.exit(0 if kept == [0, 2] and bins.tolist() == [[[[1, 1], [1, 1]]]] else "wrong results")

$(STAMP): requirements.txt pyproject.toml
	@stop() { printf '\nThe set-up stopped: %b\n' "$$1" >&2; exit 1; }
	cxx=$${CXX:-c++}
	$$cxx -std=c++17 -x c++ -fsyntax-only - <<< '#include <vector>' 2>/dev/null || stop \
	  "no working C++ compiler ($$cxx). mmcv-full has to be compiled. Install one and run make again:\n\
	  Debian, Ubuntu: apt install g++      Fedora: dnf install gcc-c++      conda: conda env create -f environment.yml"
	python= seen=
	for candidate in $(PYTHON); do
	  version=$$("$$candidate" -c '$(PROBE)' 2>/dev/null) || continue
	  seen+="$$candidate is $$version; "
	  case $$version in 3.11|3.12) python=$$("$$candidate" -c 'import sys; print(sys.executable)'); break;; esac
	done
	[[ -n $$python ]] || stop \
	  "Python 3.11 or 3.12 with its headers is needed (tried: $(PYTHON). Found: $${seen:-none that runs}).\n\
	  Debian, Ubuntu: apt install python3.11-dev python3.11-venv      conda: conda env create -f environment.yml\n\
	  elsewhere: make setup PYTHON=/path/to/python3.11"
	uv=$$(command -v uv || true)
	if [[ -z $$uv ]] || ! "$$uv" pip freeze --python "$$python" >/dev/null 2>&1; then  # none, or older than pyproject.toml asks
	  uv=.uv/bin/uv
	  "$$uv" --version >/dev/null 2>&1 || {
	    echo "Getting uv $(UV_VERSION), the installer, into .uv"
	    "$$python" -m venv --clear .uv || stop "$$python cannot make environments (Debian, Ubuntu: apt install python3-venv)"
	    .uv/bin/pip install --quiet uv==$(UV_VERSION) || stop "uv cannot be downloaded: is there network? Run make again"
	  }
	fi
	jobs=$${MAX_JOBS:-$$(nproc)}
	echo "Setting up $(ENV) with $$python. The first time on a machine this downloads several GB (torch) and compiles mmcv-full:"
	echo "2 to 5 minutes on 2 cores, silent meanwhile (jobs now: $$jobs). The result is kept; a later set-up takes a minute."
	if [[ $(ENV) == .venv ]]; then
	  # a copy that was moved, or made with another Python, does not work
	  [[ $$(.venv/bin/python -c '$(PROBE)' 2>/dev/null) =~ ^3\.1[12]$$ && $$(cat $(STAMP) 2>/dev/null || pwd) == "$$(pwd)" ]] ||
	    "$$uv" venv --quiet --clear --python "$$python" .venv
	  install=(pip sync requirements.txt)
	else
	  install=(pip install --no-deps -r requirements.txt)  # what else is in a conda environment stays
	fi
	# compiled here, once: where Python may not write bytecode (most containers), each call would compile torch and mmdet anew, 11 s
	# with lib/mmcv_build on its path mmcv-full compiles in two minutes of a core instead of fifteen
	PYTHONPATH="$(CURDIR)/lib/mmcv_build$${PYTHONPATH:+:$$PYTHONPATH}" MAX_JOBS=$$jobs \
	  "$$uv" "$${install[@]}" --compile-bytecode --python '$(BIN)/python' || stop \
	  "see above. Without network, run it again when there is one: it goes on where it stopped"
	"$$uv" pip install --quiet --python '$(BIN)/python' --no-deps --no-build-isolation --editable .
	answer=$$('$(BIN)/python' -c '$(VERIFY)' 2>&1) || stop "mmcv-full was built wrongly:\n$$answer\nBuild it again:\n\
	  $$uv cache clean mmcv-full && $$uv pip uninstall --python '$(BIN)/python' mmcv-full && make setup"
	mkdir -p outputs
	pwd > '$(STAMP)'
	echo "Set up. Next: make demo, or make lab"

# Half the channels and a third of the RoIs of the published Faster R-CNN, on 320 pixels: two trainings in minutes on a laptop.
DEMO := outputs/demo
DEMO_SEARCH := 2m
DEMO_SETTING := -p recipe finetune -p epochs 12 -p image_size 320 -p overrides "model.neck.out_channels=128 \
  model.rpn_head.in_channels=128 model.rpn_head.feat_channels=128 model.roi_head.bbox_roi_extractor.out_channels=128 \
  model.roi_head.bbox_head.in_channels=128 model.train_cfg.rcnn.sampler.num=128 model.test_cfg.rpn.max_per_img=300"
demo: setup  ## train two backbones on real photos, compare them, say why they miss and look for a remedy (7 minutes on 2 cores with bf16)
	@mkdir -p $(DEMO)
	train() {  # both at once, each on half the cores: a single small training leaves cores idle
	  OMP_NUM_THREADS=$$(( ($$(nproc) + 1) / 2 )) '$(BIN)/papermill' --no-progress-bar --log-output notebooks/2_train.ipynb \
	    $(DEMO)/2_train-$$1.ipynb -p dataset tree_crowns -p backbone tf_efficientnet_$$1 $(DEMO_SETTING) 2>&1 |
	    tee $(DEMO)/2_train-$$1.log | grep --line-buffered -oE '(epoch [0-9]+/.*|run folder: .*|already .*|[A-Za-z]*Error: .*)' |
	    sed -u "s/^/$$1  /"
	}
	echo "Training two detectors; one line an epoch, the whole output is in $(DEMO)/2_train-*.log"
	train lite0 & one=$$!
	train lite2 & two=$$!
	wait $$one && wait $$two || { kill $$one $$two 2>/dev/null; exit 1; }
	'$(BIN)/papermill' --no-progress-bar notebooks/5_compare.ipynb $(DEMO)/5_compare.ipynb -p dataset tree_crowns
	folder_of() { grep -oE 'run folder: .*' $(DEMO)/2_train-$$1.log | tail -1 | sed 's/^run folder: //'; }
	diagnose() {
	  OMP_NUM_THREADS=$$(( ($$(nproc) + 1) / 2 )) '$(BIN)/papermill' --no-progress-bar notebooks/3_diagnose.ipynb \
	    $(DEMO)/3_diagnose-$$1.ipynb -p run "$$(folder_of $$1)" > $(DEMO)/3_diagnose-$$1.log 2>&1 ||
	    { tail -20 $(DEMO)/3_diagnose-$$1.log; return 1; }
	}
	echo "Following every object through both detectors"
	diagnose lite0 & one=$$!
	diagnose lite2 & two=$$!
	wait $$one && wait $$two || { kill $$one $$two 2>/dev/null; exit 1; }
	'$(BIN)/jupyter-nbconvert' --to html --log-level ERROR $(DEMO)/*.ipynb
	echo "Looking for what would find more of the small objects that lite0 misses: a short search, on images cut from train"
	'$(BIN)/workbook' remedy "$$(folder_of lite0)" --budget $(DEMO_SEARCH) --jobs $$(( $$(nproc) > 1 ? 2 : 1 )) | tee $(DEMO)/6_remedy.log
	printf '\nThe comparison: %s\n' "$$PWD/$(DEMO)/5_compare.html"
	printf 'Why they miss:  %s\n' "$$PWD"/$(DEMO)/3_diagnose-*.html
	printf 'What may help:  %s\n' "$$(sed -n 's/^page: //p' $(DEMO)/6_remedy.log)"
	printf 'A training:     %s\n' "$$PWD"/$(DEMO)/2_train-*.html

test: setup lint  ## ruff, mypy and all tests, offline (make test ARGS='-k schedule' for some)
	# a process a core, each test file whole in one of them
	OMP_NUM_THREADS=1 '$(BIN)/python' -m pytest -n $$(nproc) --dist loadfile $(ARGS)

lint: setup  ## ruff and mypy
	'$(BIN)/ruff' check
	'$(BIN)/mypy'

bench: setup  ## the workbook against stock mmdet, row by row (long: the demo is one of them; ARGS=P1 for one row)
	'$(BIN)/python' -m bench $(ARGS)

lab: setup  ## JupyterLab on the notebooks, on this machine alone (127.0.0.1)
	# the workbook's own kernel python3 comes first; Jupyter looks into JUPYTER_PATH before it looks into its environment
	JUPYTER_PATH="$$(cd '$(BIN)/..' && pwd)/share/jupyter$${JUPYTER_PATH:+:$$JUPYTER_PATH}" '$(BIN)/jupyter-lab' --ip 127.0.0.1 $(ARGS)

clean:  ## remove the environment and the caches; data/ and outputs/ stay
	rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache *.egg-info '$(STAMP)'
	find lib tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
