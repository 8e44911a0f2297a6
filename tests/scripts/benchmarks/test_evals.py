"""The benchmark script at a small size: it runs, its numbers are consistent, its JSON can be read back."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

SCRIPT = Path(__file__).parents[3] / "scripts" / "benchmarks" / "evals.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_evals", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
def test_small_run_with_clean_fid(bench: ModuleType, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(bench.main)
    out = tmp_path / "bench.json"
    options = ["--classes", "4", "--per-class", "40", "--dimension", "12", "--threads", "1", "--resamples", "9"]
    result = CliRunner().invoke(app, [*options, "--out", str(out)])
    assert result.exit_code == 0, result.output
    record = json.loads(out.read_text())
    assert [row["what"] for row in record["rows"]] == [
        "Fréchet, every class",
        "streaming moments",
        "all statistics",
        "classes alone, 9 resamples",
        "with 9 resamples",
        "clean-fid Fréchet, one class",
    ]
    assert all(row["seconds"] > 0 and row["peak_gb"] > 0 for row in record["rows"])
    assert abs(record["clean_fid_minus_ours"]) < 1e-5  # six printed digits of a value near 0.3
    assert record["clean_fid_over_ours_per_class"] > 0
    assert "as long" in result.output


def test_more_real_samples_than_generated(bench: ModuleType, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(bench.main)
    options = ["--classes", "2", "--per-class", "6", "--real-per-class", "20", "--dimension", "5", "--threads", "1"]
    out = tmp_path / "bench.json"
    result = CliRunner().invoke(app, [*options, "--resamples", "9", "--no-clean-fid", "--no-parts", "--out", str(out)])
    assert result.exit_code == 0, result.output
    record = json.loads(out.read_text())
    assert [row["what"] for row in record["rows"]] == ["with 9 resamples"]
    assert record["real_per_class"] == 20


def test_features_differ_in_noise_and_share_their_means(bench: ModuleType) -> None:
    one, two = bench.make_features(3, 4000, 6, 1.0, 1), bench.make_features(3, 4000, 6, 0.8, 2)
    assert one.dtype == np.float32
    for a, b in zip(one.reshape(3, -1, 6), two.reshape(3, -1, 6), strict=True):
        assert np.allclose(a.mean(0), b.mean(0), atol=0.1)  # standard error 0.02 for the widest direction
        assert np.trace(np.cov(b.T)) / np.trace(np.cov(a.T)) == pytest.approx(0.64, abs=0.03)  # se 0.01
    assert not np.array_equal(one, two)


def test_bad_option_exits_with_2(bench: ModuleType) -> None:
    app = typer.Typer()
    app.command()(bench.main)
    assert CliRunner().invoke(app, ["--classes", "1"]).exit_code == 2
