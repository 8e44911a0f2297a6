"""A stranger's first report: the page's own images, its first command, and the sentence that it ends on."""

import re
from pathlib import Path

from scripts.pages.tutorial import Block, differences, run

PAGE = (Path(__file__).parents[2] / "docs" / "own_images.md").read_text()


def test_the_page_walked_ends_on_the_sentence_that_it_shows(tmp_path):
    (images,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    ((command, shown),) = re.findall(
        r"^```sh\n(kdist compare [^\n]* pixels [^\n]*\n)```\n.*?^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
    )
    _, printed = run([Block("python", images), Block("bash", command)], tmp_path)
    assert differences(f"...\n{shown}...\n", printed) == []
    assert "class digit 3" in (tmp_path / "report" / "report.html").read_text()
