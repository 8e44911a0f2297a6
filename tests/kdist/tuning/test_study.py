"""The study's storage: workers that start at the same moment all come to the one study."""

import threading

import optuna
import pytest
import sqlalchemy.exc

from kdist.tuning import study


def test_workers_that_start_together(tmp_path):
    together, opened, failed = threading.Barrier(6), [], []

    def start(url):
        together.wait()
        try:
            opened.append(study.open_study(url, "one", optuna.samplers.RandomSampler(), {"seed": 0}, resume=False))
        except Exception as error:
            failed.append(error)

    for attempt in range(3):  # a race: one try might pass by luck
        url = f"sqlite:///{tmp_path / f'{attempt}.db'}"
        workers = [threading.Thread(target=start, args=(url,)) for _ in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert optuna.get_all_study_names(url) == ["one"]
    assert not failed
    assert len(opened) == 18


def test_a_storage_that_stays_broken_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(study.time, "sleep", lambda pause: None)
    with pytest.raises(sqlalchemy.exc.OperationalError, match="unable to open database file"):
        study.open_study(
            f"sqlite:///{tmp_path / 'no' / 'folder.db'}", "one", optuna.samplers.RandomSampler(), {}, resume=False
        )
