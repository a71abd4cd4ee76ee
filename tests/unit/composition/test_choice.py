"""Who of the adapters nearest to a prompt answers, and how they share."""

import numpy as np
import pytest

from lora_studio.composition import Routed
from lora_studio.composition.choice import BLANK, Choice
from lora_studio.composition.token_router import router

NEAR = {"a": 0.8, "b": 0.5, "c": 0.4, "d": 0.1}


def test_by_default_the_nearest_share_evenly():
    assert Choice().shares(NEAR, 2, 0.05) == {"a": 0.5, "b": 0.5}
    assert Choice().shares({"a": -1.0}, 3, 0.05) == {"a": 1.0}


def test_who_leads_by_the_gap_answers_alone():
    assert Choice(gap=0.3).shares(NEAR, 3, 0.05) == {"a": 1.0}
    assert len(Choice(gap=0.31).shares(NEAR, 3, 0.05)) == 3
    assert Choice(gap=0.3).shares({"a": 0.5}, 3, 0.05) == {"a": 1.0}


def test_who_is_not_near_enough_does_not_answer():
    assert Choice(margin=0.4).shares(NEAR, 3, 0.05) == {"a": 0.5, "b": 0.5}
    assert Choice(margin=0.76).shares(NEAR, 3, 0.05) == {}
    plan = Routed("mixture", {"a": 1.0, "b": 1.0}, 2, choice=Choice(margin=0.76))
    assert plan.needs_retrieval
    assert plan.row({**NEAR, BLANK: 0.05}).terms == ()
    assert len(plan.row({**NEAR, BLANK: 0.04}).terms) == 1
    assert len(plan.row(NEAR).terms) == 2, "nothing is known of a blank text"


def test_shares_follow_similarity():
    found = Choice(temperature=0.1).shares(NEAR, 3, 0.05)
    assert sum(found.values()) == pytest.approx(1)
    assert found["a"] / found["b"] == pytest.approx(np.exp(3))
    assert list(Choice(temperature=0.01).shares({"a": 1.0, "b": -1.0}, 2, 0.05)) == ["a", "b"]


def test_a_router_hears_whoever_was_chosen_in_full():
    wanted = router("arrow", share="all")
    plan = Routed("arrow", {"a": 1.0, "b": 0.5}, 2, router=wanted, choice=Choice(gap=0.1))
    assert plan.row({"a": 0.5, "b": 0.45}).terms == (("a", 1.0), ("b", 0.5))
    assert plan.row({"a": 0.5, "b": 0.2}).terms == (("a", 1.0),)
