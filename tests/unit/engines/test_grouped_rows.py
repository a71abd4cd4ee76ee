"""Updates of several groups of rows, added at once or one by one, are the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lora_studio.engines.grouped_rows import GroupedRows, Piece, Stack

NAME, TOKENS, WIDTH = "layer", 3, 5


@pytest.fixture
def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(WIDTH, WIDTH)


def piece(rank: int) -> Piece:
    return Piece(torch.randn(rank, WIDTH), torch.randn(WIDTH, rank))


def check(rows: GroupedRows, layer: nn.Linear) -> None:
    """Every row has the update of its own group and no other."""
    x = torch.randn(rows.rows, TOKENS, WIDTH)
    with torch.no_grad():
        expected = layer(x)
        for first, behind, pieces in rows.groups:
            mine = pieces[NAME]
            assert isinstance(mine, Piece)
            expected[first:behind] += x[first:behind] @ mine.A.mT @ mine.B.mT
        found = rows.add(NAME, layer, x, layer(x))
    torch.testing.assert_close(found, expected)


def test_groups_of_one_size_and_mixed_ranks_have_their_own_updates(layer):
    a, b = {NAME: piece(2)}, {NAME: piece(4)}
    check(GroupedRows(((0, 2, a), (2, 4, b)), 4), layer)


def test_what_was_stacked_for_even_groups_is_not_used_for_others(layer):
    a, b = {NAME: piece(2)}, {NAME: piece(4)}
    stacks: dict[str, Stack | None] = {}
    check(GroupedRows(((0, 2, a), (2, 4, b)), 4, stacks), layer)
    check(GroupedRows(((0, 1, a), (1, 4, b)), 4, stacks), layer)
    check(GroupedRows(((0, 1, a), (3, 4, b)), 4, stacks), layer)
    check(GroupedRows(((0, 2, a), (2, 4, b)), 4, stacks), layer)
