"""Figure F10: what every method finds is kept with its truth, and both are shown."""

import pytest
import torch

from scripts.results import searches, tuning
from scripts.results.store import Store


def test_methods_are_compared_on_fresh_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "CONSTANTS", (1.0, 2.0))
    given = {"accuracy": 0.2, "samples": 30, "truth": 2, "repeats": {"random": 1, "hand": 1}}
    options = {"subjects": {"digits, first 3": given}, "calls_per_sample": 4, "steps": 2}
    options["reach"] = {"look": 2, "networks": {}}
    options["warm_starts"] = {"seeds": 0, "subject": "digits", "steps": 2, "samples": 50, "accuracy": 0.2,
                              "calls_per_sample": 4, "truth": 2}  # fmt: skip
    options["curse"] = {"repeats": 1, "steps": 2, "samples": 40, "accuracy": 0.2}
    store = Store(tmp_path / "F10.json")
    rows = tuning.compute(store, **options)
    methods = [row["method"] for row in rows if row["part"] == "methods"]
    assert methods == ["random", "hand", "constant", "constant"]
    # by the hand's interval one of the two levels, 20 and 0.02, is guided at most: 2 to 4 calls
    assert all(2 <= row["calls"] <= 4 for row in rows[:-1])
    assert "promised" in rows[0]
    tuning.draw(rows, tmp_path / "F10.png")
    table = tuning.texts(rows)["table"]
    assert "random search" in table
    assert "constant 2" in table
    assert "1 searches" in tuning.texts(rows)["curse"]
    searches.network.cache_clear()
    monkeypatch.setattr(searches, "shipped", None)  # would fail if anything were measured again
    assert tuning.compute(Store(tmp_path / "F10.json"), **options) == rows


def test_some_classes_of_a_network():
    whole, few = (searches.network(name, 2) for name in ("digits", "digits, first 3"))
    assert few.real[1].unique().tolist() == [0, 1, 2]
    assert len(few.real[0]) == len(few.real[1]) == int((whole.real[1] < 3).sum())
    images = whole.real[0][:5]
    torch.testing.assert_close(few.judge(images), whole.judge(images)[:, :3])


def test_a_small_budget_is_spent_on_smaller_looks():
    """A search asks for twelve looks of its 70 %: 5 samples of each class as ``kdist tune`` takes them, if it can."""
    assert [searches.first_look(samples) for samples in (30, 40, 80, 100, 300)] == [2, 2, 4, 5, 5]
    assert all(0.7 * samples > 12 * searches.first_look(samples) for samples in range(35, 301))


def test_a_search_that_holds_no_bound_is_a_result(tmp_path, monkeypatch):
    def tune(*args, **options):
        raise ValueError(message)

    monkeypatch.setattr(searches.kdist, "tune", tune)
    message = "accuracy at least 0.9 is not reached by anything that was tried"
    settings = {"steps": 2, "accuracy": 0.9, "samples": 30, "calls_per_sample": 4}
    found = searches.find(lambda: searches.network("digits", 2), "random", 0, **settings)
    assert found == {"nothing": message}
    seen = {"distance": [0.1, 0.01], "accuracy": [0.9, 0.01], "calls": 4.0}
    rows = [{"part": "methods", "subject": "digits", "method": "random", **found}]
    assert (
        tuning.texts(rows)["table"].splitlines()[-1] == "| digits | random search | 1, 1 held no bound |  |  |  |  |  |"
    )
    rows += [{"part": "methods", "subject": "digits", "method": "random", "schedule": "2", **seen}]
    assert "| digits | random search | 2, 1 held no bound | 0.100 |" in tuning.texts(rows)["table"]
    tuning.draw(rows, tmp_path / "F10.png")
    message = "calls=3 is too few"
    with pytest.raises(ValueError, match="too few"):
        searches.find(lambda: searches.network("digits", 2), "random", 0, **settings)
