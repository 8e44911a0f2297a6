"""Commands that are killed at random moments, and commands that write one file at the same time.

    python -m scripts.benchmarks.accidents                  # 20 kills, 14 kills, 45 rounds: some 20 minutes
    python -m scripts.benchmarks.accidents --rounds 0       # the kills alone

The real commands run in processes of their own. What must hold afterwards: features to the last byte those of a run
that nobody disturbed, a report's files all of one run, no unfinished file left behind. Exit code 1 where it does not.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

_SHARD = 4  # images: many small files, so that a kill often meets one that is being written
_NAMES = ["report.html", "results.json", "classes.csv"]


def start(folder: Path, *arguments: object) -> subprocess.Popen[bytes]:
    """``kdist arguments`` in ``folder``, with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-m", "kdist", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for its success.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    said = process.communicate()[1].decode(errors="replace")
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {said[-500:]}")


def killed(process: subprocess.Popen[bytes], begun: Callable[[], bool], wait: float) -> bool:
    """Send SIGKILL ``wait`` seconds after ``begun()``; False if it ended before that."""
    while process.poll() is None and not begun():
        time.sleep(0.002)
    time.sleep(wait)
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def further(cache: Path) -> Callable[[], bool]:
    """Whether there are more shards than now: the run that was started is past its beginning."""

    def shards() -> int:
        return sum(1 for _ in cache.rglob("*.safetensors"))

    before = shards()
    return lambda: shards() > before


def write_images(folder: Path, count: int, seed: int) -> None:
    """Grey noise of 8 by 8 pixels in two classes."""
    generator = np.random.default_rng(seed)
    for i in range(count):
        path = folder / "ab"[i % 2] / f"{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)


def unfinished(folder: Path) -> list[str]:
    """What a killed run may leave, and no later run."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix == ".partial")


def extraction(folder: Path, kills: int, chance: random.Random) -> list[str]:
    """Kill ``kdist features`` until it has happened ``kills`` times; what is wrong afterwards."""
    write_images(folder / "images", 1600, seed=0)
    options = ["images", "-e", "pixels", "--shard-size", _SHARD, "--batch-size", _SHARD, "--quiet"]
    begin = time.monotonic()
    finish(start(folder, "features", *options, "--cache", "undisturbed", "-o", "expected.npz"))
    duration = time.monotonic() - begin
    expected, wrong, done, runs, left = (folder / "expected.npz").read_bytes(), [], 0, 0, 0
    while done < kills:
        runs += 1
        cache, out = folder / f"cache{runs}", folder / f"out{runs}.npz"
        process = start(folder, "features", *options, "--cache", cache.name, "-o", out.name)
        while killed(process, further(cache), chance.uniform(0, duration / 8)):
            done += 1
            left += len(unfinished(folder))
            if out.exists() and out.read_bytes() != expected:
                wrong.append(f"{out.name} is there and not whole")
            process = start(folder, "features", *options, "--cache", cache.name, "-o", out.name)
            if done == kills:
                finish(process)
                break
        if out.read_bytes() != expected:
            wrong.append(f"{out.name} differs from that of an undisturbed run")
        wrong += unfinished(folder)
    print(
        f"extraction: {done} kills, {left} unfinished files left by them; {runs} files made by runs that went on, "
        f"{len(wrong)} things wrong"
    )
    return wrong


def comparison(folder: Path, kills: int, chance: random.Random) -> list[str]:
    """Kill ``kdist compare`` in a folder that holds another report, mostly while it writes."""
    for seed, name in enumerate(["real", "first", "second"]):
        write_images(folder / name, 60, seed)

    def compare(fake: str, out: str) -> subprocess.Popen[bytes]:
        options = ["-e", "pixels", "--quick", "--cache", "cache", "--out", out]
        return start(folder, "compare", "real", fake, *options)

    finish(compare("first", "old"))
    old = {path.name: path.read_bytes() for path in (folder / "old").iterdir()}
    wrong: list[str] = []
    seen = {"the former report": 0, "parts of the new one": 0}
    done = runs = 0
    while done < kills:
        runs += 1
        out = folder / f"out{runs}"
        shutil.copytree(folder / "old", out)
        process = compare("second", out.name)
        moment = 0.4 * chance.random() ** 2
        if not killed(process, lambda out=out: bool(unfinished(out)), moment):  # type: ignore[misc]
            continue
        done += 1
        files = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix != ".partial"}
        former = {name for name, content in files.items() if old.get(name) == content}
        if former and former != set(old):
            wrong.append(f"{out.name}: {', '.join(sorted(former))} of the former report beside {sorted(files)}")
        seen["the former report" if former else "parts of the new one"] += 1
        finish(compare("second", out.name))
        wrong += unfinished(out) + [f"{out.name}: no {name}" for name in _NAMES if not (out / name).exists()]
    print(f"compare: {done} kills in {runs} runs; what stood there then: {seen}; {len(wrong)} things wrong")
    return wrong


def shared(folder: Path, rounds: int) -> list[str]:
    """Three ``kdist features`` that write the same file into the same cache, at the same time."""
    write_images(folder / "images", 60, seed=0)
    wrong: list[str] = []
    contents = set()
    for number in range(rounds):
        options = ["--shard-size", _SHARD, "--cache", f"cache{number}", "-o", f"out{number}.npz", "--quiet"]
        processes = [start(folder, "features", "images", "-e", "pixels", *options) for _ in range(3)]
        for process in processes:
            try:
                finish(process)
            except RuntimeError as error:
                wrong.append(f"round {number}: {error}")
        contents.add((folder / f"out{number}.npz").read_bytes())
    if len(contents) > 1:
        wrong.append(f"{len(contents)} different files")
    wrong += unfinished(folder)
    print(f"one --out and one cache for three processes: {rounds} rounds, {len(wrong)} things wrong")
    return wrong


def main(
    kills: Annotated[int, typer.Option(min=0, help="Of kdist features.")] = 20,
    report_kills: Annotated[int, typer.Option(min=0, help="Of kdist compare.")] = 14,
    rounds: Annotated[int, typer.Option(min=0, help="Of three processes that write one file.")] = 45,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
) -> None:
    """Run the commands, kill them, look at what is left."""
    chance = random.Random(seed)
    wrong: list[str] = []
    for count, work in (
        (kills, lambda folder: extraction(folder, kills, chance)),
        (report_kills, lambda folder: comparison(folder, report_kills, chance)),
        (rounds, lambda folder: shared(folder, rounds)),
    ):
        if count:
            with tempfile.TemporaryDirectory() as folder:
                wrong += work(Path(folder))
    for line in wrong:
        print(f"wrong: {line}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    typer.run(main)
