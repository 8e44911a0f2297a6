"""Types are seen across packages and by code outside: mypy on a file elsewhere, with kdist installed as README says."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import distributions

import pytest

DOWNSTREAM = """\
import numpy as np
import kdist
from kdist.evals import measure
from kdist.theory import GaussianPair, distortion

one = np.ones(1)
pair = GaussianPair(one, one / 2, one, one)
ratio: float = distortion(pair, kdist.LateNegative(3.0, 1.0), sigma_max=80.0).trace_ratio
shrunk: int | None = measure(one, one).pooled.shrunk
text: str = distortion(pair, kdist.parse("3"), sigma_max=80.0).trace_ratio  # wrong: a float
pair.kept  # wrong: no such attribute
kdist.giude  # wrong: a slip of the pen
"""
# types of other packages are most of the work (98 s of processor time, 2 s without) and none of what is asked;
# only NumPy's and SciPy's are followed
OTHERS = ("torch", "sqlalchemy", "alembic", "optuna", "IPython", "rich", "PIL", "matplotlib")
SKIPPED = "follow_imports = skip\nfollow_imports_for_stubs = True\n"
CONFIG = f"[mypy]\n[mypy-{','.join(f'{package}.*' for package in OTHERS)}]\n{SKIPPED}"


def test_an_editable_install_shows_its_types(tmp_path):
    # all of them: the first one found may be the egg-info that building leaves in the checkout
    installed = [json.loads(found.read_text("direct_url.json") or "{}") for found in distributions(name="kdist")]
    if not any(each.get("dir_info", {}).get("editable") for each in installed):
        pytest.skip("kdist is not installed with pip install --editable")
    (tmp_path / "downstream.py").write_text(DOWNSTREAM)
    (tmp_path / "mypy.ini").write_text(CONFIG)
    command = [sys.executable, "-m", "mypy", "--cache-dir", os.devnull, "downstream.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    lines = DOWNSTREAM.splitlines()
    wrong = [number for number, line in enumerate(lines, 1) if "# wrong" in line]
    assert [int(found) for found in re.findall(r"downstream\.py:(\d+): error", done.stdout)] == wrong, done.stdout
