#!/bin/sh
# Makes the peers' environments, `.venv-pytorch` and so on beside this file, where they are not up to date.
#
#   sh environments.sh [PEER ...]  prints a line for each peer that is ready: its name and its interpreter
#
# The peers are pytorch, tensorflow and optuna; all of them unless some are named.
# VLGA_PEER_PYTORCH, VLGA_PEER_TENSORFLOW, VLGA_PEER_OPTUNA: an interpreter that has all the peer needs; nothing is made
# for it then.
# A peer whose environment cannot be made is skipped, with one line on stderr; the exit code is 0 all the same.

set -eu
cd "$(dirname "$0")"
here=$(pwd)
wanted=" ${*:-pytorch tensorflow optuna} "

# Says whether an interpreter is Python $wanted and makes environments; "headers" if C++ can be built against it, too.
probe='
import os, sys, sysconfig
try:
    import ensurepip, venv
except ImportError:
    sys.exit(1)
if "%d.%d" % sys.version_info[:2] != sys.argv[1]:
    sys.exit(1)
header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
print(sys.executable, "headers" if os.path.exists(header) else "bare")
'

# candidates VERSION: prints interpreters that may be it, those on PATH before those of pyenv.
candidates() {
  command -v "python$1" || true
  command -v python3 || true
  if command -v pyenv >/dev/null; then
    for candidate in "$(pyenv root)/versions/$1".*/bin/"python$1"; do
      if [ -x "$candidate" ]; then echo "$candidate"; fi
    done
  fi
}

# find_python VERSION: prints the first suitable interpreter, one with headers if there is one.
find_python() {
  found=$(candidates "$1" | while read -r candidate; do
    "$candidate" -c "$probe" "$1" 2>/dev/null </dev/null || true
  done)
  chosen=$(printf '%s\n' "$found" | sed -n 's/ headers$//p' | sed -n 1p)
  printf '%s\n' "${chosen:-$(printf '%s\n' "$found" | sed -n 's/ bare$//p' | sed -n 1p)}"
}

# skipped NAME REASON
skipped() {
  echo "peer $1 is skipped: $2" >&2
}

# peer NAME MODULES VERSION GIVEN: makes a wanted peer's environment of Python VERSION, unless an interpreter is GIVEN.
peer() {
  name=$1 modules=$2 version=$3 given=$4
  case $wanted in
    *" $name "*) ;;
    *) return 0 ;;
  esac
  if [ -n "$given" ]; then
    if "$given" -c "import $modules" >/dev/null 2>&1 </dev/null; then
      echo "$name $given"
    else
      skipped "$name" "$given cannot import $modules"
    fi
    return
  fi
  venv=.venv-$name requirements=requirements-$name.txt
  stamp="$version $(cksum <"$requirements")"
  if [ "$(cat "$venv/stamp" 2>/dev/null)" != "$stamp" ]; then
    python=$(find_python "$version")
    if [ -z "$python" ]; then
      skipped "$name" "no Python $version with a venv module on PATH or in pyenv"
      return
    fi
    echo "peer $name: making $venv with $python" >&2
    rm -rf "$venv"
    log=$(mktemp)
    if "$python" -m venv "$venv" >"$log" 2>&1 &&
      "$venv/bin/python" -m pip install --disable-pip-version-check -r "$requirements" >>"$log" 2>&1 &&
      "$venv/bin/python" -c "import $modules" >>"$log" 2>&1; then
      echo "$stamp" >"$venv/stamp"
      rm -f "$log"
    else
      skipped "$name" "$(grep -i error "$log" | tail -n 1 | cut -c 1-200) (all of it: $log)"
      rm -rf "$venv"
      return
    fi
  fi
  echo "$name $here/$venv/bin/python"
}

peer pytorch torch 3.11 "${VLGA_PEER_PYTORCH:-}"
peer tensorflow tensorflow 3.12 "${VLGA_PEER_TENSORFLOW:-}"
peer optuna "optuna, torch" 3.11 "${VLGA_PEER_OPTUNA:-}"
