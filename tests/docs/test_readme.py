"""README: its code runs as it stands, it is short, and its links work on a registry's page."""

import re
from pathlib import Path

import torch

from scripts.pages import readme

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_code_runs_as_it_stands():
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert len(blocks) == 1
    names = {}
    exec(blocks[0], names)
    assert names["x"].shape == (10, 1, 8, 8)
    assert torch.isfinite(names["x"]).all()
    # the schedule leaves out a pass outside of its interval: fewer than two per step
    assert 20 < names["guided"].nfe < 40


def test_short_enough_for_a_stranger():
    assert len(README.split()) < 540  # tables, code and addresses included


def test_figure_is_of_real_images_and_of_two_schedules_on_the_same_noise():
    sheets = readme.blocks(per_class=1)
    assert list(sheets) == ["real images", *readme.SCHEDULES]
    assert len({sheet.shape for sheet in sheets.values()}) == 1
    real, constant, interval = sheets.values()
    assert not (real == interval).all()
    assert not (constant == interval).all()


def test_links_are_absolute_and_lead_to_files_that_exist():
    links = re.findall(r"\]\(([^)]*)\)", README)
    assert links
    for link in links:
        assert link.startswith("https://"), link
        here = re.fullmatch(
            r"https://(?:github\.com/kdist/kdist/blob|raw\.githubusercontent\.com/kdist/kdist)/main/(.*)", link
        )
        if here:
            assert (Path(__file__).parents[2] / here[1]).exists(), link
