"""The one training loop: a class-conditional k-diffusion network with a moving average, resumable at every step.

A run is a folder: ``config.json`` (k-diffusion's format), ``checkpoint.pt``, ``ema.safetensors``, the kept
``ema-STEP.safetensors`` and ``log.jsonl``. What a step draws depends on ``seed`` and the step alone, so that a resumed
run goes on as if it had not been interrupted.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kdist.checkpoints import make_denoiser
from kdist.compat import import_k_diffusion
from kdist.files import written_atomically
from scripts.training.run_folder import append_record, check_settings, load_state, save_state, save_weights

__all__ = ["cosine", "labelled", "train", "trapezoid"]

Batch = Callable[[torch.Generator], tuple[torch.Tensor, dict[str, torch.Tensor]]]


def trapezoid(step: int, *, warmup: int, steps: int, cooldown: float = 0.3) -> float:
    """Share of the learning rate at ``step``: linear warm-up, constant, linear fall over the last ``cooldown`` of it.

    Unlike a cosine it does not depend on ``steps`` until the fall begins, so a run may be made longer or shorter on
    the way (A. Hägele et al., Scaling laws and compute-optimal training beyond fixed training durations, 2024).
    """
    fall = max(1.0, cooldown * steps)
    return max(0.0, min(1.0, (step + 1) / warmup, (steps - step) / fall))


def cosine(step: int, *, warmup: int, steps: int, floor: float = 0.02) -> float:
    """Share of the learning rate at ``step``: linear warm-up times half a cosine down to ``floor``."""
    warm = min(1.0, (step + 1) / warmup)
    return warm * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))


def labelled(
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    size: int,
    uncond: int,
    dropout: float,
    condition: Callable[[torch.Tensor], dict[str, torch.Tensor]],
) -> Batch:
    """Batches of ``size`` images with their classes, a share ``dropout`` of which are hidden behind ``uncond``.

    Args:
        images, labels: (N, C, H, W) and (N,) int64.
        size: images in a batch.
        uncond: the class that means "none".
        dropout: share of hidden classes.
        condition: takes classes (size,), gives the network's keyword arguments.
    """

    def draw(generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        index = torch.randint(len(images), (size,), generator=generator)
        classes = labels[index].clone()
        classes[torch.rand(size, generator=generator) < dropout] = uncond
        return images[index], condition(classes)

    return draw


def train(
    out: Path,
    config: dict[str, Any],
    batch: Batch,
    evaluate: Callable[[Any], dict[str, float]],
    *,
    steps: int,
    rate: Callable[[int], float],
    ema_decay: float = 0.9995,
    eval_every: int = 500,
    keep_every: int = 1000,
    save_seconds: float = 300.0,
    seed: int = 0,
    device: str = "cpu",
    bfloat16: bool = False,
    group_options: dict[str, Any] | None = None,
) -> None:
    """Train, or go on training, the run in ``out``.

    Args:
        out: the run's folder.
        config: k-diffusion's; the network, the density of sigma and AdamW's settings are taken from it.
        batch: takes a generator, gives images (N, C, H, W) in [-1, 1] and the network's keyword arguments.
        evaluate: called with the averaged denoiser every ``eval_every`` steps; what it returns goes into the log.
        steps: optimizer steps in all; may differ on resuming where ``rate`` allows it.
        rate: takes the step, gives the share of the learning rate.
        ema_decay: the moving average's, less during the first steps.
        eval_every, keep_every: steps between lines of the log, and between weights that are kept (0: none).
        save_seconds: time between checkpoints (there is one with every line of the log besides).
        seed: decides everything drawn.
        device: torch's.
        bfloat16: the forward pass in bfloat16 where torch allows it; weights and averages stay float32.
        group_options: options of the network's ``param_groups``.

    Raises:
        ValueError: ``out`` holds a run with another config, or a damaged checkpoint.
    """
    check_settings(out, config)
    learner = _Learner(config, seed=seed, device=device, bfloat16=bfloat16, group_options=group_options or {})
    learner.steps = load_state(out / "checkpoint.pt", **learner.parts)
    written_atomically(out / "config.json", lambda path: path.write_text(json.dumps(config, indent=1)))
    running, start = float("nan"), time.monotonic()
    saved = start
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task("", total=steps, completed=learner.steps)
        if learner.steps:
            progress.console.print(f"resuming at step {learner.steps}")
        while learner.steps < steps:
            loss, step = learner.update(batch, rate(learner.steps), ema_decay), learner.steps
            running = loss if running != running else 0.99 * running + 0.01 * loss
            progress.update(task, advance=1, description=f"loss {running:.4f}")
            due = step % eval_every == 0 or step == steps
            if due:
                seconds = time.monotonic() - start
                record = {"step": step, "seconds": seconds, "train_loss": running, **evaluate(learner.ema)}
                append_record(out / "log.jsonl", {name: round(value, 5) for name, value in record.items()})
                progress.console.print(" ".join(f"{name} {value:.4g}" for name, value in record.items()))
            if due or time.monotonic() - saved > save_seconds:
                save_state(out / "checkpoint.pt", step, **learner.parts)
                save_weights(learner.ema, config, out / "ema.safetensors")
                saved = time.monotonic()
            if keep_every and step % keep_every == 0:
                save_weights(learner.ema, config, out / f"ema-{step:06d}.safetensors")


class _Learner:
    """The network, its moving average, AdamW, and how many steps they have made."""

    def __init__(
        self, config: dict[str, Any], *, seed: int, device: str, bfloat16: bool, group_options: dict[str, Any]
    ) -> None:
        K = import_k_diffusion()
        torch.manual_seed(seed)
        self.model = make_denoiser(config).to(device)
        self.ema = copy.deepcopy(self.model).eval().requires_grad_(False)
        settings = config["optimizer"]
        self.optimizer = torch.optim.AdamW(
            self.model.inner_model.param_groups(settings["lr"], **group_options),
            betas=tuple(settings["betas"]),
            eps=settings["eps"],
            weight_decay=settings["weight_decay"],
        )
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.parts = {"model": self.model, "ema": self.ema, "optimizer": self.optimizer}
        self.density, self.ema_update = K.config.make_sample_density(config["model"]), K.utils.ema_update
        self.seed, self.device, self.bfloat16, self.steps = seed, device, bfloat16, 0

    def update(self, batch: Batch, rate: float, ema_decay: float) -> float:
        """One step on a batch; its loss."""
        seed = self.seed * 1_000_003 + self.steps  # resuming repeats nothing
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        x, arguments = batch(generator)
        noise = torch.randn(x.shape, generator=generator)
        x, noise, sigma = (tensor.to(self.device) for tensor in (x, noise, self.density([len(x)])))
        arguments = {name: tensor.to(self.device) for name, tensor in arguments.items()}
        for group, base in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = base * rate
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.bfloat16):
            loss = self.model.loss(x, noise, sigma, **arguments).mean()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        self.ema_update(self.model, self.ema, min(ema_decay, (self.steps + 1) / (self.steps + 10)))
        return loss.item()
