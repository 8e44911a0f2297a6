"""ComfyUI's recipe of docs/tuning.md, as it stands there, against a server that answers as ComfyUI's API does."""

import io
import json
import random
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
import torch

import kdist

PAGE = Path(__file__).parents[2] / "docs" / "tuning.md"
WORKFLOW = {
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["1", 1]}},
    "3": {"class_type": "KSampler", "inputs": {"seed": 0, "positive": ["2", 0], "model": ["6", 0]}},
    "6": {"class_type": "KdistSchedule", "inputs": {"schedule": "", "model": ["1", 0]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
}
LEVELS = torch.tensor([14.6, 5.0, 1.0, 0.2], dtype=torch.float64)


def picture(flow):
    """PNG of two pixels whose grey depends on prompt, seed and schedule: guidance lessens what the seed does."""
    from PIL import Image

    weight = float(kdist.from_json(flow["6"]["inputs"]["schedule"])(LEVELS).mean()) - 1
    place = {"a dog": -0.3, "a house": 0.3}[flow["2"]["inputs"]["text"]]
    draw = random.Random(flow["3"]["inputs"]["seed"])
    grey = [place * (1 + 0.3 * weight) + 0.3 * (1 - 0.2 * weight) * draw.gauss(0, 1) for _ in range(2)]
    image = Image.new("RGB", (2, 1))
    image.putdata([tuple([round(127.5 * (1 + max(-1.0, min(1.0, g))))] * 3) for g in grey])
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


class Server(BaseHTTPRequestHandler):
    """``POST /prompt``, ``GET /history/ID`` (empty at first, as while an image is sampled), ``GET /view``."""

    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True  # the connection is kept, and no answer waits
    jobs: ClassVar[dict[str, dict]] = {}
    asked: ClassVar[set[str]] = set()

    def do_POST(self):
        flow = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"]
        assert self.path == "/prompt"
        assert flow.keys() == WORKFLOW.keys()
        job = f"job-{len(self.jobs)}"
        self.jobs[job] = flow
        self.answer(json.dumps({"prompt_id": job, "number": 1, "node_errors": {}}).encode())

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/view":
            query = parse_qs(url.query, keep_blank_values=True)
            assert query.keys() == {"filename", "subfolder", "type"}
            return self.answer(picture(self.jobs[query["filename"][0].removesuffix("_00001_.png")]), "image/png")
        job = url.path.removeprefix("/history/")
        ready, _ = job in self.asked, self.asked.add(job)
        image = {"filename": f"{job}_00001_.png", "subfolder": "", "type": "output"}
        return self.answer(json.dumps({job: {"outputs": {"9": {"images": [image]}}}} if ready else {}).encode())

    def answer(self, body, kind="application/json"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def generate(tmp_path, monkeypatch):
    pytest.importorskip("requests")
    (tmp_path / "workflow_api.json").write_text(json.dumps(WORKFLOW))
    monkeypatch.chdir(tmp_path)
    (recipe,) = (text for text in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if "/prompt" in text)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    scope = {}
    exec(recipe.replace("sleep(0.2)", "sleep(0)"), scope)
    scope["server"] = f"http://127.0.0.1:{server.server_port}"
    yield scope["generate"]
    server.shutdown()
    server.server_close()


def test_the_recipe_draws_and_is_tuned(generate):
    images = generate(kdist.Constant(2.0), ["a dog", "a house"], [1, 1])
    assert images.shape == (2, 3, 1, 2)
    # one seed: the two differ by what their prompts add, 0.6 x 1.3, up to eight bits
    assert torch.allclose(images[1] - images[0], torch.tensor(0.78), atol=0.02)
    tuned = kdist.tune(
        generate, labels=["a dog", "a house"], sigmas=LEVELS, per_class=2, calls=1200, certify=0.25, seed=0
    )
    assert tuned.calls <= 1200 + 2 * 20 * 2 * 2 * len(LEVELS)
    assert tuned.certified.samples >= 2 * 20
