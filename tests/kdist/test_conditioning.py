"""Conditions of every form: filled, taken and joined by one rule of what differs from row to row."""

import dataclasses
from collections import OrderedDict, UserList, defaultdict, deque, namedtuple
from typing import Any

import numpy as np
import pytest
import torch

import kdist
from kdist.conditioning import Unjoinable, join, per_row, take_rows
from kdist.schedules import PerRow

SIGMA = torch.ones(4)
# scales 1, 2, 2, 0: rows 0 to 2 need the conditional pass, rows 1 to 3 the unconditional one
MIXED = PerRow(1.0, [1.0, 2.0, 2.0, 0.0])


class Recorder(torch.nn.Module):
    """Gives back x and keeps its arguments."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, sigma, **args):
        self.seen.append((x[:, 0].tolist(), args))
        return x


def call(schedule, uncond, *, rows=4, batched=True, **args):
    """What the network was given: a list of (rows, arguments) of its calls; row i of x holds i."""
    net = Recorder()
    guided = kdist.guide(net, schedule, uncond=uncond, batched=batched)
    guided(torch.arange(float(rows))[:, None].expand(rows, 3), torch.ones(rows), **args)
    return net.seen


Pair = namedtuple("Pair", "tokens size")


@dataclasses.dataclass(frozen=True)
class Output:
    tokens: Any
    size: Any = (64, 64)


class Mask(dict):
    pass


def conditions(rows=4):
    """Per-row data in many forms, and what row i of it looks like."""
    tensor = torch.arange(rows * 2).view(rows, 2)
    return {
        "tensor": (tensor, lambda i: tensor[i]),
        "array": (tensor.numpy(), lambda i: tensor[i].numpy()),
        "texts": ([f"p{i}" for i in range(rows)], lambda i: f"p{i}"),
        "tuple of texts": (tuple(f"p{i}" for i in range(rows)), lambda i: f"p{i}"),
        "array of texts": (np.array([f"p{i}" for i in range(rows)]), lambda i: f"p{i}"),
        "numbers": (list(range(rows)), lambda i: i),
        "ragged": ([torch.full((i + 7,), i) for i in range(rows)], lambda i: torch.full((i + 7,), i)),
        "sizes": ([(i, i) for i in range(rows)], lambda i: (i, i)),
        "dicts": ([{"caption": f"p{i}"} for i in range(rows)], lambda i: {"caption": f"p{i}"}),
    }


def same(first, second):
    return bool(np.all(np.asarray(first) == np.asarray(second)))


@pytest.mark.parametrize("name", conditions())
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: {"deep": [{"x": v}]}, lambda v: Pair(v, (64, 64)), Output])
def test_rows_get_their_own_conditions(name, wrap):
    """Each row of every network call, one pass or two, joined or not, has the condition of that row."""
    value, row = conditions()[name]
    for batched in (True, False):
        for schedule in (2.0, 1.0, 0.0, MIXED):
            calls = call(schedule, lambda args: args, batched=batched, cond=wrap(value))
            assert len(calls) == (2 if not batched and schedule not in (0.0, 1.0) else 1)
            for x, args in calls:
                got = args["cond"]
                assert type(got) is type(wrap(value))
                if isinstance(got, dict):
                    got = got["deep"][0]["x"]
                elif isinstance(got, (Pair, Output)):
                    assert got.size == (64, 64)
                    got = got.tokens
                assert len(got) == len(x)
                assert type(got) is type(value)
                assert all(same(got[place], row(int(i))) for place, i in enumerate(x))


@pytest.mark.parametrize(
    "shared",
    [
        torch.tensor([64.0, 64.0]),
        np.array([64.0, 64.0]),
        (64, 64),
        torch.Size([64, 64]),
        [64.0, 64.0],
        ["a", "b"],
        torch.tensor(3.0),
        np.float32(3.0),
        "a photo",
        None,
        7,
        torch.zeros(8, 2),
        {"crop": torch.tensor([64.0, 64.0])},
        Pair(torch.zeros(2), torch.zeros(3)),
    ],
    ids=str,
)
def test_what_is_shared_reaches_the_model_as_it_is(shared):
    """Whatever number of rows each pass has: two of four here, as many as the values."""
    two = PerRow(1.0, [1.0, 2.0, 2.0, 1.0])
    for schedule in (two, MIXED, 2.0):
        for batched in (True, False):
            for _, args in call(schedule, {"y": 9}, batched=batched, y=torch.arange(4), crop=shared):
                got = args["crop"]
                assert type(got) is type(shared)
                if isinstance(shared, dict):
                    got, want = got["crop"], shared["crop"]
                elif isinstance(shared, Pair):
                    got, want = got.tokens, shared.tokens
                else:
                    want = shared
                assert np.shape(got) == np.shape(want)
                assert same(got, want)


def test_a_shared_override_of_a_shared_tensor():
    calls = call(MIXED, {"crop": torch.tensor([0.0, 0.0])}, crop=torch.tensor([64.0, 64.0]))
    assert [args["crop"].tolist() for _, args in calls] == [[0, 0], [64, 64]]
    assert [len(x) for x, _ in calls] == [3, 3]


def test_numbers_in_a_tuple_are_a_size_even_where_there_are_as_many_rows():
    for _, args in call(PerRow(1.0, [1.0, 2.0]), {"y": 9}, rows=2, y=torch.arange(2), size=(64, 32)):
        assert args["size"] == (64, 32)


@pytest.mark.parametrize("make", [OrderedDict, Mask, lambda d: defaultdict(list, d)])
def test_mappings_keep_their_type(make):
    value = make({"a": torch.arange(4), "size": (1, 2)})
    for _, args in call(2.0, lambda args: args, cond=value) + call(MIXED, lambda args: args, cond=value):
        assert type(args["cond"]) is type(value)
        assert args["cond"]["size"] == (1, 2)
    assert value["a"].tolist() == [0, 1, 2, 3]  # the caller's own is left alone


def test_model_outputs():
    """transformers' and diffusers' are mappings and dataclasses at once."""
    outputs = pytest.importorskip("transformers.modeling_outputs", reason="transformers is an extra")
    value = outputs.BaseModelOutputWithPooling(last_hidden_state=torch.arange(8).view(4, 2), pooler_output=None)
    for x, args in call(2.0, lambda args: args, text=value) + call(MIXED, lambda args: args, text=value):
        assert type(args["text"]) is type(value)
        assert args["text"].last_hidden_state[:, 0].tolist() == [2 * i for i in x]
        assert args["text"]["last_hidden_state"] is args["text"].last_hidden_state
        assert args["text"].pooler_output is None


@pytest.mark.parametrize(
    ("cond", "uncond", "expected"),
    [
        (["a", "b", "c", "d"], "", [""] * 4),
        (["a", "b", "c", "d"], ["x", "y", "z", "w"], ["x", "y", "z", "w"]),
        (("a", "b", "c", "d"), "no", ("no",) * 4),
        ([0, 1, 2, 3], 10, [10] * 4),
        (np.arange(4), 10, [10] * 4),
        (np.arange(4), np.array([10]), [10] * 4),
        (np.array(["a", "b", "c", "d"]), "none at all", ["none at all"] * 4),
        (torch.arange(4), torch.tensor(10), [10] * 4),
        (torch.arange(4), np.int64(10), [10] * 4),
        (torch.arange(4.0), 10, [10] * 4),
        (torch.ones(4, 2), 0, [[0, 0]] * 4),
        (torch.ones(4, 2), 10.0, [[10, 10]] * 4),
        (torch.ones(4, 7, dtype=torch.int64), 49407, [[49407] * 7] * 4),
        (torch.ones(4, dtype=torch.bool), False, [False] * 4),
    ],
    ids=str,
)
def test_unconditional_values_are_filled_in_the_form_of_the_condition(cond, uncond, expected):
    ((_, args),) = call(0.0, {"y": uncond}, y=cond)
    got = args["y"]
    assert type(got) is type(cond)
    assert same(got, expected)


@pytest.mark.parametrize(
    ("cond", "uncond"),
    [
        (torch.eye(10)[:4], 10),
        (torch.eye(10)[:4], np.int64(10)),
        (torch.eye(10)[:4], torch.tensor(10)),
        (torch.eye(10)[:4].long(), 10),
        (torch.eye(10)[:4].long(), 9),
        (np.eye(10)[:4], 10),
        (torch.zeros(4, 7, 5), 10),
        (torch.zeros(4, 5, dtype=torch.complex64), 1),
        (torch.arange(4), 10.5),
        (torch.arange(4), float("nan")),
        (torch.arange(4), float("inf")),
        (torch.arange(4, dtype=torch.uint8), 300),
        (torch.arange(4, dtype=torch.uint8), -1),
        (torch.ones(4, dtype=torch.bool), 10),
        (torch.ones(4, dtype=torch.bool), 2),
        (torch.arange(4, dtype=torch.uint8), 256),
        (np.arange(4), 0.5),
    ],
    ids=str,
)
def test_numbers_that_do_not_fit_the_encoding_are_refused(cond, uncond):
    with pytest.raises(ValueError, match=r"uncond\['y'\] is"):
        call(2.0, {"y": uncond}, y=cond)


def test_what_is_per_row():
    assert per_row(torch.zeros(3, 2), 3)
    assert not per_row(torch.zeros(2, 3), 3)
    assert not per_row(torch.tensor(1.0), 1)
    assert per_row(["a"], 1)
    assert not per_row([torch.zeros(1, 7)], 1)  # a list of one batch
    assert per_row([torch.zeros(7)] * 3, 3)
    assert not per_row([torch.zeros(3, 7)] * 3, 3)  # three batches
    assert not per_row("abc", 3)
    assert not per_row({"a": 1, "b": 2, "c": 3}, 3)
    assert not per_row(Pair("a", "b"), 2)
    assert not per_row((1, 2.5, 3), 3)
    assert per_row((None, "a", 3), 3)
    assert per_row(deque("abc"), 3)
    assert per_row(range(3), 3)
    assert not per_row(b"abc", 3)


def test_sequences_of_every_kind_are_sliced_with_the_rows():
    """What is passed to a model of two rows has two entries, whatever holds them."""
    for value in (["a", "b", "c"], ("a", "b", "c"), deque("abc"), UserList("abc")):
        assert take_rows(value, [2, 0], 3) == type(value)(["c", "a"])
        assert join(value, value, (3, 3), ([1], None)) == type(value)(["b", "a", "b", "c"])
    assert take_rows(range(5, 8), [2, 0], 3) == [7, 5]
    assert join(range(2), range(2), (2, 2)) == [0, 1, 0, 1]
    # pandas' series look numbers up among the names of their rows, and have iloc for places
    series = type("Series", (), {"__array__": None, "ndim": 1, "shape": (3,), "iloc": np.array([10, 11, 12])})()
    assert take_rows(series, [2, 0], 3).tolist() == [12, 10]


def test_joining_takes_the_rows_of_each_side():
    joined = join(torch.arange(4), 10 + torch.arange(4), (4, 4), ([0, 2], [1]))
    assert joined.tolist() == [0, 2, 11]
    assert join(torch.arange(4), torch.arange(2), (4, 2)).tolist() == [0, 1, 2, 3, 0, 1]
    assert take_rows({"a": torch.arange(4), "b": 1}, [3, 0], 4)["a"].tolist() == [3, 0]
    for first, second in (
        (torch.arange(4), 3),
        ([1, 2, 3, 4], (1, "a", 3, 4)),
        (torch.arange(4), np.arange(4)),
        (np.arange(4), np.arange(4.0)),
        (Pair(1, 2), (1, 2)),
        (Output(1), Pair(1, (64, 64))),
        (torch.zeros(5), np.zeros(5)),
    ):
        with pytest.raises(Unjoinable):
            join(first, second, (4, 4))


def test_controlnet_residuals_and_pairs_of_conditions_are_containers():
    """A list of as many batches as there are rows."""
    value = [torch.arange(3) + 10 * i for i in range(3)]
    for x, args in call(PerRow(1.0, [1.0, 2.0, 0.0]), lambda args: args, rows=3, down=value):
        assert [part.tolist() for part in args["down"]] == [[i + 10 * n for i in x] for n in range(3)]


def test_one_row_is_expanded_without_a_copy():
    row = torch.zeros(1, 77, 8)
    args = kdist.conditioning.unconditional_args({"tokens": torch.ones(4, 77, 8)}, {"tokens": row}, 4)
    assert args["tokens"].shape == (4, 77, 8)
    assert args["tokens"].data_ptr() == row.data_ptr()
