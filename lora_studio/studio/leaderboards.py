"""The shipped leaderboards, and measuring one of their cells again on this machine."""

from __future__ import annotations

import random
from typing import Any

from lora_studio.errors import InvalidRequest
from lora_studio.evaluation.leaderboard import Group, Leaderboard, Line, shipped
from lora_studio.studio.comparing import open_suite
from lora_studio.studio.flow import Flow, Steps
from lora_studio.studio.moderating import Moderating
from lora_studio.studio.permissions import Actor
from lora_studio.worker.job import Job

BASE_LABEL = "base model"
DRAWN_UNDER = 0
"""Seed under which the test prompts of the shipped figures were drawn."""


class Measuring(Moderating):
    """The part of a studio that tells what methods scored."""

    def get_leaderboard(
        self, modality: str = "text", *, actor: Actor | None = None
    ) -> dict[str, Any]:
        """The shipped leaderboard of "text" or "image": groups, lines, cells; see
        `evaluation.leaderboard`. A line says whether it can be measured `here`."""
        self._access.actor(actor)
        board = shipped(modality)
        told = board.to_dict()
        for line, one in zip(told["lines"], board.lines, strict=True):
            line["here"] = _can_run(board, one)
        return told

    def measure_cell(
        self, group: str, line: str, n: int = 0, *, actor: Actor | None = None
    ) -> Flow:
        """Measures a cell of the text leaderboard again, composing anew; keeps nothing.

        Result {n, correct, rate, low, high, seconds}, of a merge also {rank, notes}.

        Args:
            group, line: key and label.
            n: prompts of each task, those that the shipped figure begins with; 0 for all of them.
        """
        board = shipped("text")
        column, row = board.find(group, line)
        if not _can_run(board, row):
            raise InvalidRequest(f"'{row.title}' cannot be measured by itself here.")
        if not 0 <= n <= board.prompts:
            raise InvalidRequest(f"n is {n}; it must be 0 to {board.prompts} prompts of each task.")
        who = self._generating(actor, board.base)
        count = n or board.prompts

        def steps(flow: Flow) -> Steps:
            if row.kind == "routing":
                yield from self.librarian.placing(flow.check)
            tests = self._drawn(who, column, board.prompts, count)
            args = self._cell(who, board, column, row, tests)
            return (yield from flow.run(Job("measure_cell", args, "model")))

        return self._flow(who, steps)

    def _drawn(self, who: Actor, group: Group, drawn: int, count: int) -> list[dict[str, str]]:
        """The first `count` of the prompts that were drawn of each of a group's test files."""
        if group.suite:
            files = [open_suite(group.suite)]
        else:
            files = [self.gallery.tests(self._access.entry(id, who).id) for id, _ in group.adapters]
        rng = random.Random
        return [
            test
            for file in files
            for test in rng(DRAWN_UNDER).sample(file, min(drawn, len(file)))[:count]
        ]

    def _cell(
        self,
        who: Actor,
        board: Leaderboard,
        group: Group,
        line: Line,
        tests: list[dict[str, str]],
    ) -> dict[str, Any]:
        """Arguments of the job."""
        args: dict[str, Any] = {
            "base": board.base,
            "device": self.settings.device,
            "max_rows": self.settings.max_rows,
            "tests": tests,
        }
        if not line.method:
            return args
        recipe = self._composer.full_ids(self._access.recipe(board.recipe(group, line), who))
        args |= {
            "recipe": recipe.to_dict(),
            "blobs": self._composer.blobs(recipe),
            "samples": self._composer.samples(recipe),
        }
        if line.kind == "routing":
            prompts = [test["prompt"] for test in tests]
            among = [source.id for source in recipe.sources]
            args["similarity"] = self.librarian.similarities(prompts, among, board.base)
        return args


def _can_run(board: Leaderboard, line: Line) -> bool:
    return board.modality == "text" and (bool(line.method) or line.label == BASE_LABEL)
