"""The folder of a training run: what does not fit is named and kept."""

import pytest
import torch

from scripts.training import run_folder


def test_a_checkpoint_that_does_not_fit_is_named_and_kept(tmp_path):
    run_folder.save_state(tmp_path / "c.pt", 3, model=torch.nn.Linear(2, 2))
    assert run_folder.load_state(tmp_path / "c.pt", model=torch.nn.Linear(2, 2)) == 3
    assert run_folder.load_state(tmp_path / "none.pt", model=torch.nn.Linear(2, 2)) == 0
    with pytest.raises(ValueError, match="of another network"):
        run_folder.load_state(tmp_path / "c.pt", model=torch.nn.Linear(3, 2))
