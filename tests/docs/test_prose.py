"""Lines of prose are at most 120 characters long; wrapping leaves everything else as it is."""

import itertools
import re
from pathlib import Path

import pytest

from scripts.pages.prose import filled, long_lines

ROOT = Path(__file__).parents[2]
FILES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
PAGES = sorted({path.relative_to(ROOT).as_posix() for path in FILES} - {"CHANGELOG.md"})
LONG = "word " * 30
WORDS = {  # of the glossary, by their anchors
    "sigma": "sigma",
    "scale": "scales?",
    "weight": "(?:papers'|negative|constant) weights?",
    "variance-kept": "trace ratios?|variance kept",
    "overshoot": "overshoots?",
    "displacement": "displacement",
    "floor": "floors?",
    "takeover": "takeovers?|takes over",
    "energy-distance": "energy distances?",
}


@pytest.mark.parametrize("page", PAGES)
def test_prose_is_wrapped(page):
    assert long_lines((ROOT / page).read_text()) == [], f"python -m scripts.pages.prose {page}"


@pytest.mark.parametrize("page", PAGES)
def test_no_sentence_becomes_a_list(page):
    """A line that begins with a number and a full stop, in the middle of a paragraph, is read as the item of a list."""
    prose = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = prose.splitlines()
    inside = [line for before, line in itertools.pairwise(lines) if _is_inside(before, line)]
    assert inside == []


def _is_inside(before, line):
    number = r"\s*\d+[.)] "
    return re.match(number, line) and before.strip() and not re.match(number, before) and not before.startswith("   ")


@pytest.mark.parametrize(
    "kept",
    [
        f"| {LONG}|",
        f"```text\n{LONG}\n```",
        f"# {LONG}",
        f"$$\n{LONG}\n$$",
        f"    {LONG}",
        f"![{LONG}](a)",
        "x" * 130,
    ],
)
def test_what_is_no_prose_stays(kept):
    assert filled(f"Before.\n\n{kept}\n\nAfter.\n") == f"Before.\n\n{kept}\n\nAfter.\n"
    assert long_lines(kept) == []


@pytest.mark.parametrize(("first", "rest"), [("", ""), ("- ", "  "), ("10. ", "    "), (":   ", "    "), ("> ", "> ")])
def test_what_is_prose_is_filled_in_its_place(first, rest):
    page = f"{first}{LONG.strip()}\n"
    assert len(long_lines(page)) == 1
    lines = filled(page).splitlines()
    assert [len(line) <= 120 for line in lines] == [True, True]
    assert lines[0].startswith(f"{first}word")
    assert lines[1].startswith(f"{rest}word")
    assert filled(filled(page)) == filled(page)


def test_no_line_begins_with_a_marker_and_code_stays_together():
    text = filled(f"{'wor ' * 29} - 1. `a  b c` {LONG}").splitlines()
    assert not text[1].startswith(("-", "1."))
    assert "`a b c`" in "\n".join(text)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md"), key=str), ids=lambda page: page.name)
def test_words_are_linked_to_the_glossary_where_they_first_occur(page):
    """A reader who meets a word of the field finds what it means: on the spot, or in a table of symbols before it."""
    code = r"```.*?```|\$\$.*?\$\$|`[^`]*`|^ {4}[^\n]*|!\[[^\]]*\]|<!--.*?-->"
    text = re.sub(code, _blank, page.read_text(), flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^[#|][^\n]*", _blank, text, flags=re.MULTILINE)
    late = []
    for word, spelled in WORDS.items():
        spelled = spelled.replace(" ", r"\s+")
        first = re.search(rf"\b(?:{spelled})\b", prose, flags=re.IGNORECASE)
        link = re.search(rf"\[[^\]]*\]\(glossary.md#{word}\)", text)
        if first and not (link and link.start() < first.start()):
            late.append(prose[max(0, first.start() - 40) : first.end() + 10])
    assert page.name == "glossary.md" or late == []


def _blank(found):
    return " " * len(found[0])
