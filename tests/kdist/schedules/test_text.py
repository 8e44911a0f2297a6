"""Schedules as text and JSON: every schedule that can be written is read back, and what cannot be read is named."""

import json

import numpy as np
import pytest
import torch

import kdist
from kdist.schedules import Clip, NegativeWindow, PerClass, PerRow, Piecewise, Sum, Then, describe, parse

LATE = kdist.LateNegative(4.0, 1.5)
NESTED = [
    Piecewise((2.0,), (4.0,)),
    Piecewise((2.0,), (4.0,), "linear"),
    Piecewise((2.0, 0.0), (4.0, 1e-7)),
    LATE + 1,
    0.5 * (LATE + kdist.Interval(2, 0.3, 4)).clip(None, 3),
    LATE.clip(),
    Piecewise((2.0,), (4.0,)).then(LATE, at=0.1),
    PerClass({0: 4.0, 7: LATE, 12: Piecewise((2.0,), (4.0,))}, default=LATE),
    PerClass({3: 1.0}),
    PerClass({3: 1.0}, key="label"),
    *(PerClass({3: 1.0}, key=key) for key in ("none", "5", "a,b", 'quo"te', "(x", "b=c", "")),
    PerRow(LATE, [2.0]),
    PerRow(NegativeWindow(4, 0.3, 1), [2.0, 3.5]),
    PerClass({0: PerRow(1.0, [2.0])}),
]


@pytest.mark.parametrize("schedule", NESTED, ids=str)
def test_written_schedules_are_read_back(schedule):
    assert parse(str(schedule)) == schedule
    assert parse(schedule.to_json()) == schedule
    assert kdist.from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule


def test_text_that_people_write():
    assert parse("piecewise:sigmas=2,scales=4") == Piecewise((2.0,), (4.0,))
    assert parse("clip:schedule=(4),maximum=NONE") == Clip(kdist.Constant(4.0))
    assert parse(" sum:first=(late-negative:scale=4,sigma_switch=1.5),second=1 ") == LATE + 1
    assert parse("negative-window:scale=4,sigma_lo=0.3,sigma_hi=1,after=None").after is None


@pytest.mark.parametrize("values", ["80", b"80", "8,0"])
def test_text_is_no_list_of_its_digits(values):
    for sigmas, scales in ((values, (1.0, 2.0)), ((2.0, 1.0), values)):
        with pytest.raises(ValueError, match=r"sequence of numbers|one scale for each sigma"):
            Piecewise(sigmas, scales)
    with pytest.raises(ValueError, match="one number per row"):
        PerRow(4.0, values)


def test_numbers_inside_compositions_are_schedules():
    assert Sum(2, LATE) == kdist.Constant(2) + LATE
    assert Then(2, 3, 1.0) == kdist.Constant(2).then(3, at=1.0)
    assert Clip(2, 0, 1)(1.0) == 1
    assert kdist.from_dict({"type": "product", "first": 2, "second": 3})(1.0) == 6


def deep_json(depth):
    return '{"type":"clip","schedule":' * depth + '{"type":"constant","scale":1}' + "}" * depth


@pytest.mark.parametrize(
    "text",
    [
        deep_json(100),
        deep_json(100_000),
        '{"type":"per-row","scales":' + "[" * 200 + "]" * 200 + "}",
        "clip:schedule=(" * 100 + "4" + ")" * 100,
        "clip:schedule=(" * 5000 + "4" + ")" * 5000,
        "piecewise:sigmas=" + "[" * 100 + "1" + "]" * 100 + ",scales=1",
    ],
    ids=["json", "very deep json", "lists", "text", "very deep text", "brackets"],
)
def test_deep_nesting_is_one_clear_error(text):
    with pytest.raises(ValueError, match="nested at most 64 deep"):
        parse(text)


def test_a_reasonable_depth_is_read():
    """64 schedules inside the outermost one, however they are written."""
    text = "clip:schedule=(" * 64 + "1" + ")" * 64
    for schedule in (kdist.from_json(deep_json(64)), kdist.parse(text)):
        assert schedule(1.0) == 1
    for read in (lambda: kdist.from_json(deep_json(65)), lambda: kdist.parse(f"clip:schedule=({text})")):
        with pytest.raises(ValueError, match="at most 64 deep"):
            read()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kdist.from_dict([1]), "expected a mapping"),
        (lambda: kdist.from_dict(4), "expected a mapping"),
        (lambda: kdist.from_dict({"type": ["x"]}), "no 'type'"),
        (lambda: kdist.from_dict({"type": "clip", "schedule": None}), "must be a number"),
        (lambda: kdist.from_dict({"type": "sum", "first": "x", "second": 1}), "must be a number"),
        (lambda: kdist.from_json('{"type": "constant", "scale": NaN}'), "finite"),
        (lambda: kdist.from_json('{"type": "constant", "scale": 1e999}'), "finite"),
        (lambda: kdist.from_json('{"kdist_schedule": "2", "type": "constant", "scale": 1}'), "upgrade"),
        (lambda: parse("clip:schedule=(4"), "brackets do not match"),
        (lambda: parse("clip:schedule=(4)),maximum=3"), "brackets do not match"),
        (lambda: parse("1e39"), "finite"),
        (lambda: parse(""), "unknown schedule ''"),
    ],
)
def test_what_cannot_be_read(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_file_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.json").write_text("\ufeff" + LATE.to_json(), encoding="utf-8")
    assert kdist.from_json(tmp_path / "a.json") == parse(str(tmp_path / "a.json")) == LATE


def test_words():
    assert describe(kdist.Constant(1)) == "no guidance"
    assert describe(LATE) == "4, then 0 below sigma 1.5"
    assert describe(LATE + 1) == str(LATE + 1)


# Class numbers


@pytest.mark.parametrize("key", [1.2, "1", 1j, None, 1.5])
def test_class_numbers_are_whole(key):
    with pytest.raises(ValueError, match="class numbers"):
        PerClass({1: 2.0, key: 3.0})


def test_a_class_given_twice():
    for pairs in (((1, 2.0), (1, 3.0)), [[1, 2.0], [1.0, 3.0]]):
        with pytest.raises(ValueError, match="class 1 is given twice"):
            PerClass(pairs)
    assert PerClass({np.int64(1): 2.0, np.uint8(3): 3.0}) == PerClass({1: 2.0, 3: 3.0})


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.bool, torch.float16])
def test_labels_that_are_no_integers(dtype):
    with pytest.raises(ValueError, match=f"integers, one per row; got {dtype}"):
        PerClass({0: 4.0, 1: 2.0}).bind({"class_cond": torch.ones(2).to(dtype)}, 2)
    with pytest.raises(ValueError, match="integers, one per row"):
        PerClass({0: 4.0, 1: 2.0}).bind({"class_cond": [0, 1]}, 2)


def test_labels_of_every_integer_type():
    schedule = PerClass({0: 4.0, 200: 2.0})
    for dtype in (torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64):
        bound = schedule.bind({"class_cond": torch.tensor([0, 200]).to(dtype)}, 2)
        assert bound.evaluate(torch.ones(2)).tolist() == [4, 2]
    far = torch.tensor(np.array([2**64 - 1, 200], dtype=np.uint64))  # as int64 it would be -1
    with pytest.raises(ValueError, match="no schedule for class"):
        PerClass({200: 2.0, 0: 1.0}).bind({"class_cond": far}, 2)
