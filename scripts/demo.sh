#!/usr/bin/env bash
# The demo in one command: makes .venv on the first run, then runs `kdist demo`; options are passed on (--quick, --out DIR, ...).
set -eu
here=$PWD
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" all
kdist=$PWD/.venv/bin/kdist
cd "$here" # so that --out is relative to where the user stands
exec "$kdist" demo "$@"
