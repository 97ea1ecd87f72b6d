"""The training loop; a resumed training ends with the same bytes as an uninterrupted one."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gramophone_server.files import atomic_file

from .loss import gradient_loss, pair_losses, total
from .muon import Muon
from .networks import Student, Teacher, fast_dtype
from .pictures import Photos, list_photos
from .pool import Pool
from .recipe import Recipe
from .walks import Walks

CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"
_LOG_EVERY = 50


class Training:
    """The training of a student.

    Args:
        recipe: the hyperparameters.
        weights: the teacher's weights, as from `read_weights`.
        photos: folder of photographs; one in `recipe.held_out` is not used for training.
        folder: folder of the checkpoint and the log; the training resumes from a checkpoint in it.
    """

    def __init__(
        self, recipe: Recipe, weights: dict[str, tuple[np.ndarray, np.ndarray]], photos: Path, folder: Path
    ) -> None:
        self.recipe = recipe
        self._folder = folder
        self._generator = torch.Generator().manual_seed(recipe.seed)
        drawn = Photos(list_photos(photos, recipe.held_out)[0])
        measured = [drawn.crop(recipe.side, self._generator) for _ in range(24)]
        self.teacher = Teacher(weights, recipe.layers, measured)
        self.student = Student(recipe.layers, recipe.widths, self._generator)
        self._average = {name: value.detach().clone() for name, value in self.student.named_parameters()}
        matrices, vectors = self.student.groups()
        self._optimizers = Muon(matrices, recipe.rate), torch.optim.Adam(vectors, recipe.rate, betas=(0.9, 0.99))
        self._pool = Pool(recipe.capacity)
        self._walks = Walks(recipe, drawn)
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CHECKPOINT).exists():
            self._load()

    def run(
        self, *, seconds: float = float("inf"), save_every: float = 120, report: Callable[[str], None] = print
    ) -> bool:
        """Trains until all steps are done or the time is over, writes a checkpoint, and returns whether all are done.

        Args:
            seconds: maximum time.
            save_every: seconds between two checkpoints.
            report: called with a line of text every 50 updates.
        """
        begun = saved = time.monotonic()
        recent: list[dict[str, Any]] = []
        while self.step < self.recipe.steps and time.monotonic() - begun < seconds:
            recent.append(self._update())
            if self.step % _LOG_EVERY == 0:
                self._log(recent, report)
                recent = []
            if time.monotonic() - saved > save_every:
                self.save()
                saved = time.monotonic()
        self.save()
        return self.step >= self.recipe.steps

    def average(self) -> Student:
        """Returns the student with its averaged parameters."""
        student = Student(self.recipe.layers, self.recipe.widths, torch.Generator())
        student.load_state_dict(self._average)
        return student

    def _update(self) -> dict[str, Any]:
        if self.step % self.recipe.refresh == 0 or len(self._pool) < self.recipe.pairs:
            found = self._walks.photographs(self._generator)
            if self.step >= self.recipe.begin:
                found += self._walks.stretch(self.student, self.teacher, self._generator)
            for pair in found:
                self._pool.add(pair)
        pairs = self._pool.draw(self.recipe.pairs, self._generator)
        silence: list[Tensor] = []
        losses = pair_losses(self.student, self.teacher, pairs, fast_dtype(), silence)
        loss = total(losses, self.recipe)
        # A dead channel gets no gradient from the other losses and would stay dead.
        loss = loss + self.recipe.silence * sum(silence)
        gradient_error: Tensor | None = None
        if self.step >= self.recipe.begin and self.step % self.recipe.gradient_every == 0:
            gradient_error = gradient_loss(self.student, self.teacher, pairs[: self.recipe.gradient_pairs])
            loss = loss + self.recipe.gradient * gradient_error
        for optimizer in self._optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = group["deviation"] * self.recipe.learning_rate(self.step)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 5.0)
        for optimizer in self._optimizers:
            optimizer.step()
        self.step += 1
        # Use a lower decay at the start; otherwise the average would contain the initial parameters for a long time.
        decay = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.student.named_parameters():
                self._average[name].lerp_(value, 1 - decay)
        parts = {name: (features.item(), grams.item()) for name, (features, grams) in losses.items()}
        return {
            "loss": loss.item(),
            "gradient": None if gradient_error is None else gradient_error.item(),
            "layers": parts,
        }

    def _log(self, recent: list[dict[str, Any]], report: Callable[[str], None]) -> None:
        def mean(values: list[float]) -> float:
            return float(f"{np.mean(values):.4g}")

        features = {n: mean([r["layers"][n][0] for r in recent]) for n in self.recipe.layers}
        grams = {n: mean([r["layers"][n][1] for r in recent]) for n in self.recipe.layers}
        loss = mean([r["loss"] for r in recent])
        gradient = mean([r["gradient"] for r in recent if r["gradient"] is not None] or [0.0])
        line = {"step": self.step, "loss": loss, "gradient": gradient, "features": features, "grams": grams}
        with (self._folder / LOG).open("a") as file:
            file.write(json.dumps(line) + "\n")
        at = f"{time.strftime('%H:%M:%S')}  step {self.step} of {self.recipe.steps}"
        report(f"{at}  loss {loss:.4f}  gradient {gradient:.3f}  {grams}")

    def save(self) -> None:
        """Writes a checkpoint atomically."""
        state = {
            "step": self.step,
            "student": self.student.state_dict(),
            "average": self._average,
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "generator": self._generator.get_state(),
            "pool": self._pool.state(),
            "walks": self._walks.state(),
        }
        with atomic_file(self._folder / CHECKPOINT, mode=0o666) as file:
            torch.save(state, file)

    def _load(self) -> None:
        state = torch.load(self._folder / CHECKPOINT, weights_only=True)
        self.step = state["step"]
        self.student.load_state_dict(state["student"])
        self._average = state["average"]
        for optimizer, kept in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self._generator.set_state(state["generator"])
        self._pool.load(state["pool"])
        self._walks.load(state["walks"])
        # Remove log lines after the checkpoint: the resumed training writes them again.
        log = self._folder / LOG
        if log.exists():
            lines = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= self.step]
            with atomic_file(log, mode=0o666) as file:
                file.write("".join(line + "\n" for line in lines).encode())
