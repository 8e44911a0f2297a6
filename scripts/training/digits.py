"""Train the shipped digits model: a class-conditional k-diffusion transformer on scikit-learn's 8x8 digits.

    python -m scripts.training.digits --out runs/digits             # resumes where it stopped
    python -m scripts.training.digits --out runs/digits --export kdist/digits/model.safetensors --export-step 4000

Every ``--eval-every`` steps the EMA model is sampled without guidance (dpmpp_2m, 20 steps) and judged: held-out
loss, accuracy of a classifier fitted to real digits, mean trace ratio, distance to the nearest training image
relative to what held-out images have. The log is ``OUT/log.jsonl``.
"""

from __future__ import annotations

import copy
import json
import math
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file

from kdist import digits
from kdist.checkpoints import make_denoiser
from kdist.compat import import_k_diffusion
from kdist.files import written_atomically

K = import_k_diffusion()


def make_config(width: int, depth: int, d_ff: int, dropout: float, steps: int) -> dict[str, Any]:
    """The run in k-diffusion's own config format (its tools read it from the exported file)."""
    return {
        "model": {
            "type": "image_transformer_v1",
            "input_channels": 1,
            "input_size": [8, 8],
            "patch_size": [2, 2],
            "width": width,
            "depth": depth,
            "d_ff": d_ff,
            "dropout_rate": dropout,
            "sigma_data": 0.75,
            "sigma_min": digits.SIGMA_MIN,
            "sigma_max": digits.SIGMA_MAX,
            "sigma_sample_density": {"type": "lognormal", "mean": 0.1, "std": 1.6},
        },
        "dataset": {"type": "sklearn-digits", "num_classes": digits.NUM_CLASSES, "cond_dropout_rate": 0.15},
        "optimizer": {"type": "adamw", "lr": 1e-3, "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 1e-2},
        "lr_sched": {"type": "cosine", "warmup_steps": 500, "steps": steps},
    }


def learning_rate(step: int, config: dict[str, Any]) -> float:
    schedule = config["lr_sched"]
    warm = min(1.0, (step + 1) / schedule["warmup_steps"])
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / schedule["steps"]))))


@torch.no_grad()
def judge(model: torch.nn.Module, per_class: int, seed: int) -> dict[str, float]:
    """Unguided samples against the real images."""
    from sklearn.linear_model import LogisticRegression

    train_x, train_y = digits.load_data("train")
    held_x, held_y = digits.load_data("held_out")
    classifier = LogisticRegression(C=0.1, max_iter=2000).fit(train_x.flatten(1), train_y)
    labels = torch.arange(digits.NUM_CLASSES).repeat_interleave(per_class)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(labels), 1, 8, 8, generator=generator) * digits.SIGMA_MAX
    samples = K.sampling.sample_dpmpp_2m(model, x, digits.sigmas(20), extra_args={"class_cond": labels}, disable=True)
    samples = samples.flatten(1)
    real_x, real_y = digits.load_data("all")

    def trace(x: torch.Tensor, y: torch.Tensor, label: int) -> float:
        return float(x[y == label].flatten(1).var(0).sum())

    ratios = [trace(samples, labels, c) / trace(real_x, real_y, c) for c in range(digits.NUM_CLASSES)]
    nearest = torch.cdist(samples, train_x.flatten(1)).min(1).values.median()
    nearest_real = torch.cdist(held_x.flatten(1), train_x.flatten(1)).min(1).values.median()
    return {
        "accuracy": float(classifier.score(samples, labels)),
        "accuracy_real": float(classifier.score(held_x.flatten(1), held_y)),
        "trace_ratio": sum(ratios) / len(ratios),
        "trace_ratio_min": min(ratios),
        "trace_ratio_max": max(ratios),
        "nearest_train_over_held_out": float(nearest / nearest_real),
    }


@torch.no_grad()
def held_out_loss(model: Any, draws: int = 8) -> float:
    """Denoising loss on images that were not trained on, the same noise at every call."""
    x, y = digits.load_data("held_out")
    generator = torch.Generator().manual_seed(0)
    total = 0.0
    for _ in range(draws):
        quantile = torch.rand(len(x), generator=generator).clamp(1e-4, 1 - 1e-4)
        sigma = torch.distributions.Normal(-0.4, 1.2).icdf(quantile).exp()
        noise = torch.randn(x.shape, generator=generator)
        total += float(model.loss(x, noise, sigma, class_cond=y).mean())
    return total / draws


def export(run: Path, step: int | None, target: Path) -> None:
    """The EMA weights in float16 with the config in the metadata, as k-diffusion's tools expect it."""
    source = run / ("ema.safetensors" if step is None else f"ema-{step:06d}.safetensors")
    if not source.exists():
        kept = ", ".join(sorted(path.stem.removeprefix("ema-") for path in run.glob("ema-*.safetensors")))
        raise typer.BadParameter(f"no weights {source}; steps kept there: {kept or 'none'}")
    weights = {name: tensor.half().contiguous() for name, tensor in load_file(source).items()}
    config = json.loads((run / "config.json").read_text())
    target.parent.mkdir(parents=True, exist_ok=True)
    written_atomically(target, lambda path: save_file(weights, path, metadata={"config": json.dumps(config)}))
    typer.echo(f"{target}: {target.stat().st_size / 1e6:.2f} MB")


def main(
    out: Annotated[Path, typer.Option(help="folder for checkpoints and the log; an interrupted run resumes")],
    steps: Annotated[int, typer.Option(help="optimizer steps")] = 8_000,
    batch_size: int = 96,
    width: int = 128,
    depth: int = 4,
    d_ff: int = 192,
    dropout: float = 0.0,
    ema_decay: float = 0.9995,
    eval_every: int = 500,
    eval_per_class: int = 60,
    seed: int = 0,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice")] = 0,
    export_to: Annotated[Path | None, typer.Option("--export", help="only write the trained weights here")] = None,
    export_step: Annotated[int | None, typer.Option(help="which step's weights  [default: the last]")] = None,
) -> None:
    """Train the digits model, or export a trained one."""
    if export_to is not None:
        export(out, export_step, export_to)
        return
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    config = make_config(width, depth, d_ff, dropout, steps)
    config_file = out / "config.json"
    if config_file.exists() and json.loads(config_file.read_text()) != config:
        raise typer.BadParameter(f"{out} holds a run with other settings; choose another folder or the same settings")
    written_atomically(config_file, lambda path: path.write_text(json.dumps(config, indent=1)))

    model = make_denoiser(config)
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        model.inner_model.param_groups(config["optimizer"]["lr"]),
        betas=tuple(config["optimizer"]["betas"]),
        eps=config["optimizer"]["eps"],
        weight_decay=config["optimizer"]["weight_decay"],
    )
    base_rates = [group["lr"] for group in optimizer.param_groups]
    checkpoint, step = out / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
        typer.echo(f"resuming at step {step}")

    train_x, train_y = digits.load_data("train")
    density = K.config.make_sample_density(config["model"])
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    running, start = 0.0, time.time()
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task("", total=steps, completed=step)
        while step < steps:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + step)  # resuming repeats nothing
            torch.manual_seed(seed * 1_000_003 + step)
            index = torch.randint(len(train_x), (batch_size,), generator=generator)
            x, y = train_x[index], train_y[index].clone()
            y[torch.rand(batch_size, generator=generator) < config["dataset"]["cond_dropout_rate"]] = digits.UNCOND
            noise = torch.randn(x.shape, generator=generator)
            for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
                group["lr"] = rate * learning_rate(step, config)
            loss = model.loss(x, noise, density([batch_size]), class_cond=y).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            K.utils.ema_update(model, ema, min(ema_decay, (step + 1) / (step + 10)))
            running = loss.item() if step == 1 else 0.99 * running + 0.01 * loss.item()
            progress.update(task, advance=1, description=f"loss {running:.4f}")
            if step % eval_every == 0 or step == steps:
                record = {
                    "step": step,
                    "seconds": round(time.time() - start, 1),
                    "train_loss": running,
                    "held_out_loss": held_out_loss(ema),
                    **judge(ema, eval_per_class, seed=1234),
                }
                with (out / "log.jsonl").open("a") as log:
                    log.write(json.dumps({k: round(v, 5) for k, v in record.items()}) + "\n")
                progress.console.print(" ".join(f"{k} {v:.4g}" for k, v in record.items()))
                state = {
                    "model": model.state_dict(),
                    "ema": ema.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                }
                written_atomically(checkpoint, lambda path, state=state: torch.save(state, path))
                written_atomically(out / "ema.safetensors", lambda path: save_file(ema.inner_model.state_dict(), path))
                if step % (2 * eval_every) == 0:
                    save_file(ema.inner_model.state_dict(), out / f"ema-{step:06d}.safetensors")


if __name__ == "__main__":
    typer.run(main)
