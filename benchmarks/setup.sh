#!/bin/sh
# Makes the Python environments of contenders that can't live in the package's own: sh benchmarks/setup.sh [NAME …]
# NAME: trl, transformer_lens, nnsight; all of them unless named. FOLDER=… puts them elsewhere, PYTHON=… picks the interpreter.
# torch is pinned and installed together with each library: alone, pip would bring its CUDA build along.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${FOLDER:-$here/.venvs}
python=${PYTHON:-python3}
[ $# -gt 0 ] || set -- trl transformer_lens nnsight
mkdir -p "$folder"
for name in "$@"; do
  case $name in
    trl) packages="trl==1.16.0 peft==0.21.2" ;;
    transformer_lens) packages="transformer-lens==4.3.0" ;;
    nnsight) packages="nnsight==0.8.1" ;;
    *) echo "$name: there is no such environment; there are trl, transformer_lens and nnsight." >&2; exit 2 ;;
  esac
  echo "$name: $folder/$name"
  "$python" -m venv "$folder/$name"
  # shellcheck disable=SC2086
  "$folder/$name/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 $packages
done
