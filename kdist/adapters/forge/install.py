"""Run by the web UI when it starts: kdist for its Python."""

import importlib.util

import launch  # the web UI's

if importlib.util.find_spec("kdist") is None:
    launch.run_pip('install matplotlib "kdist @ git+https://github.com/kdist/kdist"', "kdist")
