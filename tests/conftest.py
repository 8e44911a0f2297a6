"""Threads kept to one per process: several test processes side by side on a few cores are otherwise very slow."""

import gc
import os
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
# for the processes that xdist starts: memory that tensors leave is kept for the next ones. glibc hands it back and asks
# for it again, which takes a tenth of the time of a batch of 200 digits and a third of one of 400
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**25))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**29))
# compiling k-diffusion's small functions takes longer than running them in tests
os.environ.setdefault("K_DIFFUSION_USE_COMPILE", "0")


def pytest_configure(config):
    if not hasattr(config, "workerinput") and config.getoption("numprocesses", None):
        return  # xdist's own process runs no test: it need not import what takes seconds before the others start
    gc.disable()  # until everything is imported
    import matplotlib
    import torch
    from hypothesis import settings

    matplotlib.use("Agg")
    torch.set_num_threads(1)
    # the same examples in every run, and no time limit for each: a slow machine is no failure
    settings.register_profile("repeatable", derandomize=True, deadline=None)
    settings.load_profile("repeatable")


def pytest_collection_modifyitems(items):
    """The scripts' tests are the longest and share figures. At the front they stay in one process: an idle one takes
    over tests from the end of another's, which then are short."""
    items.sort(key=lambda item: "scripts" not in item.path.relative_to(Path(__file__).parent).parts[:1])


def pytest_collection_finish():
    """Half a million objects of imported modules stay: to look for garbage among them takes an eighth of the time."""
    gc.freeze()
    gc.set_threshold(5_000)  # new ones, not 700: a test makes many
    gc.enable()
