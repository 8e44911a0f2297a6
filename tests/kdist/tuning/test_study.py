"""The study's storage: workers that start at the same moment all come to the one study."""

import threading

import optuna
import pytest
import sqlalchemy.exc
import torch

from kdist.tuning import study
from kdist.tuning.problem import make_problem


def test_workers_that_start_together(tmp_path):
    together, opened, failed = threading.Barrier(4), [], []

    def start(url):
        together.wait()
        try:
            opened.append(study.open_study(url, "one", optuna.samplers.RandomSampler(), {"seed": 0}, resume=False))
        except Exception as error:
            failed.append(error)

    for attempt in range(2):  # a race: a try might pass by luck, though none of 24 did
        url = f"sqlite:///{tmp_path / f'{attempt}.db'}"
        workers = [threading.Thread(target=start, args=(url,)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert optuna.get_all_study_names(url) == ["one"]
    assert not failed
    assert len(opened) == 8


def test_a_storage_that_stays_broken_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(study.time, "sleep", lambda pause: None)
    with pytest.raises(sqlalchemy.exc.OperationalError, match="unable to open database file"):
        study.open_study(
            f"sqlite:///{tmp_path / 'no' / 'folder.db'}", "one", optuna.samplers.RandomSampler(), {}, resume=False
        )


def scores(images, edge=0.0):
    """Logits of the two classes of ``toy``, on either side of ``edge``."""
    return torch.stack([edge - images[:, 0], images[:, 0] - edge], dim=1)


def align(images, labels):
    return 1 - images.square().mean(dim=1)


def labels_of(images, edge=0.0):
    return (images[:, 0] > edge).long()


JUDGED = "another judge \\(it answers otherwise on the same images, .*\\)"
ALIGNED = "another align \\(it answers otherwise on the same images, .*\\)"


def about(toy, real, judge=None, align=None):
    given = {"labels": None, "features": None, "sigmas": None, "seed": 1, "reference_per_class": 50}
    return make_problem(toy, real=real, judge=judge, align=align, **given).about


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """One for all tests: its tables take longer to make than a study to be refused."""
    return optuna.storages.get_storage(f"sqlite:///{tmp_path_factory.mktemp('study') / 'study.db'}")


@pytest.fixture
def opened(storage, request):
    """The study of the test's own name, which a second call goes on with."""

    def opened(about, name="", **options):
        sampler = optuna.samplers.RandomSampler()
        return study.open_study(storage, request.node.name + name, sampler, about, **{"resume": False} | options)

    return opened


@pytest.mark.parametrize(
    ("first", "other", "message"),
    [
        ({"judge": scores}, {"judge": lambda x: scores(x, edge=0.1)}, JUDGED),
        ({"judge": scores}, {"judge": lambda x: 1.1 * scores(x)}, JUDGED),  # as many errors, surer of them
        ({"judge": scores}, {"judge": labels_of}, JUDGED),  # the same answers, without margins
        ({"judge": labels_of}, {"judge": lambda x: labels_of(x, edge=0.2)}, JUDGED),  # some 5 % of answers
        ({"judge": labels_of}, {}, JUDGED),
        ({}, {"judge": labels_of}, JUDGED),
        ({"align": align}, {"align": lambda x, labels: 0.9 * align(x, labels)}, ALIGNED),
    ],
)
def test_a_study_of_another_judge_is_refused(toy, real, opened, first, other, message):
    opened(about(toy, real, **first))
    with pytest.raises(ValueError, match=f"cannot resume: this study is of {message}"):
        opened(about(toy, real, **other))


def test_rounding_is_no_other_judge(toy, real, opened):
    opened(about(toy, real, judge=scores, align=align))
    # half precision, as another device may compute
    opened(about(toy, real, judge=lambda x: scores(x.half()), align=lambda x, y: align(x.half(), y)), resume=True)
    opened(about(toy, real, judge=labels_of), name="labels")
    opened(about(toy, real, judge=lambda x: labels_of(x.half())), name="labels", resume=True)


def test_a_study_from_before_judges_were_noted_goes_on_and_notes_it(toy, real, opened):
    now = about(toy, real, judge=scores)
    opened({key: value for key, value in now.items() if key not in ("judge", "align")})
    assert opened(now, resume=True).user_attrs["about"]["judge"] == now["judge"]
    with pytest.raises(ValueError, match=JUDGED):
        opened(about(toy, real, judge=labels_of))


def test_a_judge_is_asked_about_classes_that_are_tuned(toy, real):
    given = {"features": None, "sigmas": None, "seed": 1, "reference_per_class": 50, "align": None}
    found = make_problem(toy, real=real, labels=[1], judge=labels_of, **given).about["judge"]
    right = (real[0][real[1] == 1, 0] > 0).float()
    assert len(found["accuracy"]) == 100
    assert sum(found["accuracy"]) / 100 == pytest.approx(float(right.mean()), abs=0.12)  # 3 standard errors of 100
