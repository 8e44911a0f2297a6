# Sourced by demo.sh and test.sh: makes .venv, or repairs it, and installs this checkout with an extra.
# usage: source scripts/setup.sh EXTRA
#   KDIST_PYTHON       the python to build .venv with (default: the first that fits of python3, python3.12, ...)
#   KDIST_CONSTRAINTS  a pip constraints file instead of scripts/constraints.txt

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
constraints=${KDIST_CONSTRAINTS:-scripts/constraints.txt}

fits() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

if ! fits .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  python=
  for candidate in ${KDIST_PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python3.10}; do
    if fits "$candidate"; then python=$candidate; break; fi
  done
  if [ -z "$python" ]; then
    echo "kdist needs Python 3.10 or later with venv and pip; set KDIST_PYTHON to one" >&2
    exit 2
  fi
  echo "making .venv with $("$python" --version)"
  "$python" -m venv --clear .venv || exit 2
fi

# installed already: the same extra, from the same requirements, and it imports
stamp="$1 $(cat pyproject.toml "$constraints" | cksum)"
if [ "$(cat .venv/kdist-installed 2>/dev/null)" != "$stamp" ] ||
  ! .venv/bin/python -c 'from kdist.compat import import_k_diffusion; import_k_diffusion()' 2>/dev/null; then
  echo "installing kdist[$1] into .venv (some minutes the first time)"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --constraint "$constraints" --editable ".[$1]" || exit 2
  # Python 3.13 has no NumPy 1, which dctorch asks for and does not need: see the k-diffusion extra
  if ! .venv/bin/python -m pip show --quiet k-diffusion 2>/dev/null; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
      --constraint "$constraints" --no-deps k-diffusion dctorch clip-anytorch || exit 2
  fi
  echo "$stamp" >.venv/kdist-installed
fi
