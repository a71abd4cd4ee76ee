"""Functions that are left in the middle and gone on with."""

import threading

import pytest
import torch

from lora_studio.engines.pausing import ENDED, Pausing


def test_values_come_one_by_one_and_only_one_function_is_at_work():
    at_work, log = [], []

    def body(name):
        def run(pause):
            for step in range(2):
                at_work.append(name)
                assert len(at_work) == 1
                log.append((name, step))
                at_work.remove(name)
                pause(step)

        return run

    two = [Pausing(body("a")), Pausing(body("b"))]
    assert [one.resume() for one in two] == [0, 0]
    assert [one.resume() for one in two] == [1, 1]
    assert [one.resume() for one in two] == [ENDED, ENDED]
    assert log == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]


def test_an_error_inside_is_raised_where_one_waits():
    def body(pause):
        pause(1)
        raise ValueError("inside")

    one = Pausing(body)
    assert one.resume() == 1
    with pytest.raises(ValueError, match="inside"):
        one.resume()
    one.leave()


def test_who_is_left_cleans_up_and_its_thread_ends():
    cleaned, before = [], threading.active_count()

    def body(pause):
        try:
            pause(1)
        finally:
            cleaned.append(True)

    one, never = Pausing(body), Pausing(body)
    one.resume()
    one.leave()
    never.leave()
    assert cleaned == [True]
    assert threading.active_count() == before


def test_it_runs_in_inference_mode_with_the_callers_number_of_threads():
    seen = []
    Pausing(
        lambda pause: seen.append((torch.is_inference_mode_enabled(), torch.get_num_threads()))
    ).resume()
    assert seen == [(True, torch.get_num_threads())]
