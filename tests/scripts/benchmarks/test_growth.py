"""The benchmark of growth: every size is timed and drawn; exponents are those of the times."""

from scripts.benchmarks import growth


def test_every_size_is_timed_and_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(growth, "BASE", {"classes": 2, "dimension": 3, "samples per class": 4})
    sizes = dict.fromkeys(growth.SIZES, (4, 5, 6, 8, 12))
    monkeypatch.setattr(growth, "SIZES", sizes)
    asked = []

    def seconds(call, repeats):  # as the square of the size, but for the smallest
        call()
        size = sizes["steps"][len(asked) % 5]
        asked.append(repeats)
        return 7.0 if size == 4 else 0.01 * size**2

    monkeypatch.setattr(growth, "seconds", seconds)
    growth.main(tmp_path / "growth.png", resamples=9, repeats=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["classes", "dimension", "samples per class", "steps"]
    assert all("exponent 2.00; 4: 7 s, 5: 0.25 s" in line for line in lines)
    assert asked == [2] * 20
    assert (tmp_path / "growth.png").stat().st_size > 0
