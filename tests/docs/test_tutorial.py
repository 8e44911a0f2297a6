"""The tutorial runs as it stands, from an empty folder, and shows what it prints."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

from scripts.pages.tutorial import TOLERANCE, TUTORIAL, Block, differences, links, parse, run  # noqa: E402


def test_tutorial_prints_what_it_shows(tmp_path):
    blocks = parse(TUTORIAL.read_text())
    assert {block.language for block in blocks} == {"python", "bash"}
    outputs = run(blocks, tmp_path)
    for block, output in zip(blocks, outputs, strict=True):
        # a block that prints and shows nothing would be checked by nobody
        assert block.shown is not None or not output.strip(), block.text
        assert block.shown is None or not differences(block.shown, output), block.text
    made = {path.name for path in tmp_path.iterdir()}
    assert {"schedule.json", "from_shell.json", "report", "tutorial_trace.png"} <= made
    assert "designed" in (tmp_path / "report" / "report.html").read_text()
    pictures = [link for link in links(TUTORIAL.read_text()) if link.endswith(".png")]
    assert pictures
    assert {Path(picture).name for picture in pictures} <= made  # each is drawn by the page's own code


def test_links_lead_somewhere():
    page = TUTORIAL.read_text()
    assert len(links(page)) > 5
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = TUTORIAL.parent / path
        assert target.is_file(), link
        text = target.read_text() if anchor else ""
        headings = [line.lstrip("# ").lower().replace(" ", "-") for line in text.splitlines()]
        assert not anchor or anchor in headings or f"{{ #{anchor} }}" in text, link


SHOWN = "variance 0.65 of real [0.60, 0.71]\n30 calls, constant-1.25\n"


@pytest.mark.parametrize(
    "printed",
    [
        SHOWN,
        "  variance 0.65 of real [0.60,\n 0.71]\n ──────\n30 calls, constant-1.25",  # laid out differently
        SHOWN.replace("0.65", f"{0.65 + TOLERANCE - 0.001:.3f}"),
    ],
)
def test_same_output(printed):
    assert not differences(SHOWN, printed)


@pytest.mark.parametrize(
    "printed",
    [
        SHOWN.replace("0.65", f"{0.65 + TOLERANCE + 0.001:.3f}"),
        SHOWN.replace("30", "31"),  # counts are exact
        SHOWN.replace("real", "fake"),
        SHOWN.replace("0.65", "-0.65"),
        SHOWN.replace("variance 0.65 ", ""),
        SHOWN + "one line more",
        "a line before\n" + SHOWN,
        "",
    ],
)
def test_other_output(printed):
    assert differences(SHOWN, printed)


def test_nothing_shown():
    assert not differences("", "\n")
    assert differences("", "1\n")


def test_lines_left_out():
    printed = "first 1\nsecond 2\nthird 3\nfourth 4\n"
    assert not differences("first 1\n...\nthird 3\nfourth 4\n", printed)
    assert not differences("...\nthird 3\n...\n", printed)
    assert differences("first 1\n...\nthird 3\n", printed)  # the end is not left out
    assert differences("...\nthird 3\n...\nsecond 2\n...\n", printed)  # in this order


def test_blocks_and_their_output():
    page = "a\n```python\nx = 1\n```\nb\n```bash\necho 2\n```\n\n```text\n2\n```\n"
    blocks = parse(page)
    assert [(block.language, block.text, block.shown) for block in blocks] == [
        ("python", "x = 1\n", None),
        ("bash", "echo 2\n", "2\n"),
    ]
    assert page[slice(*blocks[1].span)] == "2\n"


@pytest.mark.parametrize("page", ["```console\n$ ls\n```\n", "```\nls\n```\n", "```text\n2\n```\n"])
def test_what_cannot_be_run_is_refused(page):
    with pytest.raises(ValueError, match="can be run"):
        parse(page)


def test_blocks_share_a_folder_and_python_a_namespace(tmp_path):
    here = Path.cwd()
    blocks = [
        Block("python", "from pathlib import Path\nPath('a.txt').write_text('from python')\n"),
        Block("bash", "cat a.txt && command -v python\n"),
        Block("python", "print(Path('a.txt').exists())\n"),
    ]
    _, shell, last = run(blocks, tmp_path)
    # the Python that runs the tests, wherever its environment is
    assert shell == f"from python{Path(sys.executable).parent / 'python'}\n"
    assert last == "True\n"
    assert Path.cwd() == here


@pytest.mark.parametrize(("language", "text"), [("bash", "ls missing\necho on"), ("bash", "echo $UNSET_NAME")])
def test_a_failing_command_ends_the_run(tmp_path, language, text):
    with pytest.raises(RuntimeError, match="exit code"):
        run([Block(language, text)], tmp_path)
