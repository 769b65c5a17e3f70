# Two commands on a fresh machine: `make digits` and `make test`. Both make `.venv` first, where it is not up to date.
#
#   make test PYTHON=/path/to/python3.13         build `.venv` with this Python; otherwise with the first suitable one
#   make test REQUIREMENTS=requirements-cpu.txt  install this list; otherwise CUDA's where an NVIDIA driver answers
#   make test WORKERS=8 PYTEST_ARGS="-k genome"  how many processes run tests (0: pytest's own); more for pytest
#   make headline PYTHON=python3 DATA=data/tfds/cifar10-npz WORKDIR=runs/headline   on a GPU, with what that Python has
#   make gpu-programs PROGRAMS_ARGS=--networks=1 in `.venv-cuda`, with requirements.txt whatever this machine is
#   make test CHECK_SHAPES=                      do not check annotated shapes while the tests run
#
# PYTHON and REQUIREMENTS may also stand in the environment.

WORKERS ?= 2
SCALE ?= full
MINUTES ?= 8
DATA ?=
WORKDIR ?=
ONLY ?=
PYTEST_ARGS ?=
PROGRAMS_ARGS ?=
# What these annotate as shapes is checked at every call while tests run. Modules without shapes are left to mypy: to
# check each small description of a block took a tenth of the tests' time.
CHECKED = $(or $(shell grep -rl --include='*.py' 'vlga_jax.shapes import' vlga_jax/genome vlga_jax/evolution \
  vlga_jax/network vlga_jax/training/step.py | sed 's,/,.,g; s,[.]py$$,,'),$(error no module annotates shapes))
CHECK_SHAPES ?= --jaxtyping-packages=$(subst $(space),$(comma),$(strip $(CHECKED) beartype.beartype))
comma := ,
space := $(subst ,, )
VENV := .venv
BIN := $(VENV)/bin

# One target after the other also under `make -j`, so that the quick checks speak first and nothing runs beside a test.
.NOTPARALLEL:
.PHONY: help digits bench headline gpu-programs test check lint types tests format environment clean print-python print-requirements

help:
	@echo "make digits   evolve networks for scikit-learn's digits, into runs/digits"
	@echo "make bench    measure against PyTorch, TensorFlow and JAX without our work; two to three hours"
	@echo "make headline measure the table of CIFAR-10 on one GPU; SCALE=small tries the script anywhere"
	@echo "make gpu-programs   compile for an NVIDIA H100, without one, what a search runs there"
	@echo "make test     lint, types and tests; what CI runs (also: make check)"
	@echo "make format   rewrite the sources as the linter wants them"
	@echo "make clean    remove $(VENV) and .venv-cuda"

digits: environment
	$(BIN)/python main.py --config=experiments/digits.py --workdir=runs/digits

# The peers' environments are made on the first call; BENCH_ARGS="--workloads=shallow --rows=eager" measures less.
bench: environment
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

# With PYTHON that one runs, and nothing is installed: it needs jax, flax, optax, orbax-checkpoint, numpy, absl-py and
# ml_collections. Each call ends within MINUTES (0: no limit) and the next goes on; DATA is where CIFAR-10 lies.
headline: $(if $(PYTHON),,environment)
	$(if $(PYTHON),$(PYTHON),$(BIN)/python) -m benchmarks.headline --scale=$(SCALE) --minutes=$(MINUTES) \
	  --data_dir=$(DATA) --workdir=$(WORKDIR) --only=$(ONLY)

gpu-programs:
	$(MAKE) environment VENV=.venv-cuda REQUIREMENTS=requirements.txt
	.venv-cuda/bin/python -m benchmarks.gpu_programs $(PROGRAMS_ARGS)

test: lint types tests

check: test

lint: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: environment
	$(BIN)/mypy --num-workers=$(WORKERS)

# On the CPU also where there is a GPU: tests/conftest.py says so.
tests: environment
	$(BIN)/python -m pytest -n $(WORKERS) $(CHECK_SHAPES) $(PYTEST_ARGS)

format: environment
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-cuda

print-python:
	@sh -c "$$FIND_PYTHON"

print-requirements:
	@sh -c "$$CHOOSE_REQUIREMENTS"

environment:
	@sh -c "$$MAKE_ENVIRONMENT"

# ---- The shell behind the targets above: POSIX sh, every dollar doubled for make. ----

# Prints the Python that builds `.venv`: PYTHON where given, else the first on PATH that runs (a pyenv shim may not),
# is new enough and can make environments (Debian's cannot without python3-venv). Fails with what was found instead.
define FIND_PYTHON
found=''
try() {
  state=$$("$$1" -c "$$probe" 2>/dev/null </dev/null) || state='does not run'
  if [ "$$state" = suitable ]; then echo "$$1"; exit 0; fi
  found="$$found$${found:+, }$$1 ($$state)"
}
probe='
import sys
state = "suitable"
try:
    import ensurepip, venv
except ImportError:
    state = "has no venv module"
if sys.version_info < (3, 12):
    state = "is %d.%d" % tuple(sys.version_info[:2])
print(state)
'
if [ -n "$${PYTHON:-}" ]; then
  try "$$PYTHON"
else
  set -f; IFS=:
  for name in python3 python3.13 python3.12 python3.14 python; do
    for dir in $$PATH; do
      if [ -f "$$dir/$$name" ] && [ -x "$$dir/$$name" ]; then try "$$dir/$$name"; fi
    done
  done
fi
echo "vlga_jax needs Python 3.12 or newer with its venv module. Found: $${found:-none on PATH}." >&2
echo "Install one (pyenv install 3.12; apt install python3.12-venv), or name it: make PYTHON=/path/to/python3.12" >&2
exit 2
endef

define CHOOSE_REQUIREMENTS
if [ -n "$${REQUIREMENTS:-}" ]; then echo "$$REQUIREMENTS"
elif nvidia-smi >/dev/null 2>&1 </dev/null; then echo requirements.txt
else echo requirements-cpu.txt
fi
endef

# Builds `.venv` anew unless its stamp, written last, names this choice and these lists, and it still runs, with the
# PYTHON that is given, if any. A stamp of contents, not of times: a fresh checkout does not install again for nothing.
define MAKE_ENVIRONMENT
set -eu
requirements=$$(sh -c "$$CHOOSE_REQUIREMENTS")
if ! [ -f "$$requirements" ]; then
  echo "REQUIREMENTS=$$requirements: no such file; use requirements.txt" >&2
  exit 2
fi
stamp="$$requirements $$(cat "$$requirements" requirements-dev.txt | cksum)"
base() { "$$1" -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null </dev/null || echo broken; }
current=$$(base $(BIN)/python)
if [ "$$current" != broken ] && [ "$$(cat $(VENV)/installed 2>/dev/null)" = "$$stamp" ]; then
  if [ -z "$${PYTHON:-}" ] || [ "$$(base "$$PYTHON")" = "$$current" ]; then exit 0; fi
fi
python=$$(sh -c "$$FIND_PYTHON")
echo "Making $(VENV) with $$python"
if ! "$$python" -m venv --clear $(VENV); then
  echo "$$python could not make $(VENV). Name another Python: make test PYTHON=/path/to/python3.12" >&2
  exit 2
fi
# The pip that Python 3.12 brings takes half as long again for it (65 s instead of 42), but will do.
$(BIN)/python -m pip install --disable-pip-version-check --retries 1 --timeout 5 -q --upgrade "pip>=25,<27" ||
  echo "No newer pip could be had; going on with the one that $$python brings" >&2
echo "Installing $$requirements and requirements-dev.txt; this takes a minute or two"
if ! $(BIN)/python -m pip install --disable-pip-version-check --no-compile -q -r "$$requirements" -r requirements-dev.txt; then
  echo "pip could not install $$requirements with $$($(BIN)/python -V); its own words are above." >&2
  echo "Check network and disk space and run make again, or try another Python: make test PYTHON=python3.12" >&2
  exit 2
fi
# On all cores, which pip does not; at the first import it would be left out where PYTHONDONTWRITEBYTECODE is set, as in containers.
# Not what nothing imports: packages' own tests, pip, ONNX's test cases.
$(BIN)/python -m compileall -q -j 0 -x '/(tests|pip|onnx/backend)/' $(VENV)/lib > /dev/null 2>&1 || true
echo "$$stamp" > $(VENV)/installed
endef

export FIND_PYTHON CHOOSE_REQUIREMENTS MAKE_ENVIRONMENT
