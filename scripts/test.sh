#!/usr/bin/env bash
# The tests in one command: makes .venv on the first run, then runs pytest in two processes; options are passed on
# (-n 0 for one process, a folder or a file, -k NAME, ...).
set -eu
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" dev
# one thread per process: the tests are many small computations
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} MKL_NUM_THREADS=${MKL_NUM_THREADS:-1}
exec .venv/bin/python -m pytest -n 2 --dist worksteal "$@"
