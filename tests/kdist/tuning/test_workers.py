"""A run that is killed or interrupted goes on; two processes work on one study."""

import contextlib
import json
import os
import runpy
import signal
import sqlite3
import sys
import time

import optuna
import pytest
from forked import forked

from kdist.cli import main

# a model of the plane in a file of its own, as a user has it; slow enough to be killed in the middle
MODEL = """
import time
import numpy as np, torch

LEVELS = torch.tensor([10.0, 1.0, 0.1], dtype=torch.float64)

def generate(schedule, labels, seeds):
    time.sleep(0.05)
    weight = float((schedule(LEVELS) - 1).mean())
    z = torch.stack([torch.randn(1, 2, 2, generator=torch.Generator().manual_seed(s)) for s in seeds])
    side = 2.0 * torch.as_tensor(labels).view(-1, 1, 1, 1) - 1
    return ((1 - 0.2 * weight) * 0.2 * z + 0.3 * side * (1 + weight)).clamp(-1, 1)

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 60)
    x = 0.2 * rng.standard_normal((120, 1, 2, 2)) + 0.45 * (2.0 * y - 1).reshape(-1, 1, 1, 1)
    np.savez("real.npz", x=x.clip(-1, 1).astype(np.float32), y=y)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "plane.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    runpy.run_path("plane.py", run_name="__main__")
    return tmp_path


def tune(*options):
    sys.path.insert(0, "")  # as where a command is typed
    sys.argv = ["kdist", "tune", "plane:generate", "--real", "real.npz", "--calls", "2000", "--out", "out", *options]
    main()


def start(folder, *options):
    return forked(tune, *options, said=folder / f"said-{time.monotonic_ns()}", folder=folder)


def trials(database):
    study = optuna.load_study(study_name="kdist-tune", storage=f"sqlite:///{database}")
    return [t for t in study.get_trials(deepcopy=False) if t.state == optuna.trial.TrialState.COMPLETE]


def finished(database):
    """How many trials are complete. Optuna would look at its migrations first, at every look."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0]
    except sqlite3.OperationalError:  # not there yet, or just being made
        return 0


def wait_for(condition, process):
    deadline = time.monotonic() + 240  # a busy machine
    while not condition():
        assert process.is_alive(), process.said.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_killed_run_goes_on(folder):
    database = folder / "out" / "study.db"
    first = start(folder)
    wait_for(lambda: finished(database) >= 5, first)
    first.kill()
    first.join()
    kept = {t.number: t.values for t in trials(database)}
    interrupted = start(folder, "--resume")
    wait_for(lambda: finished(database) >= len(kept) + 3, interrupted)
    os.kill(interrupted.pid, signal.SIGINT)
    interrupted.join(240)
    said = interrupted.said.read_text()
    assert interrupted.exitcode == 130, said
    assert "kdist: interrupted; what was finished is kept; the same command goes on" in said
    second = start(folder, "--resume")
    second.join(240)
    assert second.exitcode == 0, second.said.read_text()
    done = trials(database)
    assert len(done) > len(kept)
    assert kept.items() <= {t.number: t.values for t in done}.items()
    # nothing was measured twice: a schedule meets each block of seeds once
    pairs = [(t.user_attrs["key"], t.user_attrs["block"]) for t in done]
    assert len(set(pairs)) == len(pairs)
    assert json.loads((folder / "out" / "certified.json").read_text())["samples"] > 0


def test_two_workers_share_a_study(folder):
    database = folder / "shared.db"
    storage = ("--storage", f"sqlite:///{database}")
    first = start(folder, *storage)
    wait_for(lambda: finished(database) >= 1, first)
    second = start(folder, *storage, "--out", "out2")
    for worker in (first, second):
        worker.join(240)
        assert worker.exitcode == 0, worker.said.read_text()
    done = trials(database)
    pairs = [(t.user_attrs["key"], t.user_attrs["block"]) for t in done]
    assert len(set(pairs)) == len(pairs)
    # one budget for both: at most one block beyond it for each worker, of 2 x 5 samples of 6 calls
    assert sum(t.user_attrs["calls"] for t in done) <= 2000 * 0.7 + 2 * 60
    for out in ("out", "out2"):
        assert (folder / out / "schedule.json").is_file()
