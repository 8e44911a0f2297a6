"""Every code block of the documentation: Python runs or says what it needs, commands are as the parsers take them."""

import ast
import re
from pathlib import Path

import pytest

from kdist.schedules import registry
from scripts.pages.blocks import commands, fences, unknown_calls, unknown_command, unknown_names
from scripts.pages.tutorial import Block, run

ROOT = Path(__file__).parents[2]
FILES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in FILES}
# run by tests of their own, with what they show
OWN_TESTS = {"docs/tutorial.md", "docs/own_images.md", "README.md"}
LANGUAGES = {"python", "console", "bash", "sh", "text", ""}  # the last two are output and diagrams


@pytest.mark.parametrize("page", sorted(page for page in PAGES if "```python" in PAGES[page] and page not in OWN_TESTS))
def test_python_runs_or_says_what_it_needs(page, tmp_path, monkeypatch):
    monkeypatch.setattr("kdist.schedules.base._REGISTRY", registry())  # a page's own schedule is its reader's
    blocks = [block for block in fences(PAGES[page]) if block.language == "python"]
    assert len(blocks) == PAGES[page].count("```python")
    assert sum(bool(block.needs) for block in blocks) == PAGES[page].count("<!-- not run")  # no marker is misread
    run([Block("python", block.text) for block in blocks if not block.needs], tmp_path)
    known: set[str] = set()
    objects = {}
    for block in blocks:
        tree = ast.parse(block.text)
        assert unknown_names(tree, known) - block.brings == set(), block.text
        assert unknown_calls(tree, objects) == [], block.text


@pytest.mark.parametrize("page", sorted(PAGES))
def test_commands_parse(page):
    blocks = fences(PAGES[page])
    assert {block.language for block in blocks} <= LANGUAGES
    shells = [block for block in blocks if block.language in ("console", "bash", "sh")]
    written = [words for block in shells for words in commands(block.text)]
    # indented blocks, and commands within the prose that have options with their values
    written += commands("\n".join(re.findall(r"^    ((?:python|kdist|bash) .*)$", PAGES[page], re.MULTILINE)))
    inline = re.findall(r"`((?:python|kdist) [^`]* --[^`]*)`", re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL))
    whole = [text for text in inline if "..." not in text and not text.split()[-1].startswith("--")]
    written += [words for text in whole for words in commands(" ".join(text.split()))]
    assert [wrong for words in written if (wrong := unknown_command(words))] == []


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("kdist tune digits --accuracy 0.98 --out tuned", ""),
        ("kdist tune digits --acuracy 0.98", "acuracy"),
        ("kdist tune digits --accuracy high", "accuracy"),
        ("kdist tun digits", "tun"),
        ("accelerate launch --multi_gpu -m kdist.cli features a --out b.npz --colour red", "colour"),
        ("python -m scripts.benchmarks.overhead --rounds 41", ""),
        ("python -m scripts.benchmarks.overhead --turns 41", "--turns"),
        ("python scripts/examples/no_such_file.py", "no script"),
        ("git clone x --depth 1", ""),  # not ours to know
    ],
)
def test_a_wrong_command_is_found(command, wrong):
    (words,) = commands(f"$ {command}   # as a page has it\n")
    found = unknown_command(words)
    assert wrong in found
    assert bool(found) == bool(wrong)


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("kdist.Interval(2, sigma_lo=0.3, sigma_hi=2)", ""),
        ("kdist.Interval(2, sigma_low=0.3, sigma_hi=2)", "sigma_low"),
        ("kdist.Interval(2, 0.3)", "sigma_hi"),
        ("kdist.rules.projekted()", "does not exist"),
        ("from kdist.evals import mesure", "no mesure"),
        ("from kdist import rules as r\nr.rescaled(phi=1)", "missing"),
    ],
)
def test_a_wrong_call_is_found(code, wrong):
    found = unknown_calls(ast.parse(f"import kdist\n{code}"), {})
    assert wrong in " ".join(found)
    assert bool(found) == bool(wrong)


def test_an_undefined_name_is_found():
    known: set[str] = set()
    code = "import a.b as c\nd = c.e(f for f in g)\nwith c as h: print(h, i)"
    assert unknown_names(ast.parse(code), known) == {"g", "i"}
    assert unknown_names(ast.parse("d + h"), known) == set()


def test_markers_are_read():
    page = "<!-- not run, needs weights: pipe, noise -->\n```python\nx\n```\n- a\n\n  ```console\n  $ ls\n  ```\n"
    first, second = fences(page)
    assert (first.needs, first.brings, first.text) == ("needs weights", {"pipe", "noise"}, "x\n")
    assert (second.needs, second.language, second.text) == ("", "console", "$ ls\n")
