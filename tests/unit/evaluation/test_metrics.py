import pytest

from lora_studio.errors import InvalidRequest
from lora_studio.evaluation import metrics
from lora_studio.evaluation.metrics import METRICS, Answer, Rate, exact_match


def judged(name: str, text: str, reference: str) -> float:
    return METRICS.get(name).judge(Answer(text=text), reference)


def test_white_space_does_not_decide_a_match():
    assert exact_match(" The  dog ran.\n", "The dog ran.")
    assert not exact_match("The dog ran", "The dog ran.")


def test_intervals_are_wilson_s():
    low, high = Rate(8, 10).interval  # worked example: 0.490, 0.943
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    low, high = Rate(15, 20).interval  # Newcombe's form: 0.531 to 0.888
    assert (low, high) == pytest.approx((0.531, 0.888), abs=1e-3)
    assert Rate(10, 10).interval[1] == pytest.approx(1.0)
    assert Rate(10, 10).interval[0] == pytest.approx(0.7225, abs=1e-4)
    assert Rate(0, 0).interval == (0.0, 1.0)


def test_rates_add_up():
    assert Rate(1, 2) + Rate(3, 4) == Rate(4, 6)


def test_a_scored_answer_is_exact_by_the_model_and_a_written_one_by_its_words():
    judge = METRICS.get("exact_match").judge
    assert judge(Answer(exact=True, text=None), "x") == 1.0
    assert judge(Answer(exact=None, text=" x "), "x") == 1.0
    assert judge(Answer(exact=None, text="y"), "x") == 0.0


def test_loss_is_nats_a_token_and_perplexity_its_exponential():
    answer = Answer(exact=False, logprob=-2.0, tokens=3)
    assert METRICS.get("loss").judge(answer, "") == 2.0
    assert METRICS.get("perplexity").shown(2.0) == pytest.approx(7.389, abs=1e-3)
    assert METRICS.get("loss").judge(Answer(logprob=-1e9), "") == metrics.WORST_LOGPROB


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence():
    pytest.importorskip("rouge_score")
    # Lin 2004, table of "police killed the gunman": P = R = 3/4.
    found = judged("rouge_l", "police kill the gunman", "police killed the gunman")
    assert found == pytest.approx(0.75)
    assert judged("rouge_l", "été à Paris", "Été à Paris") == 1.0
    assert judged("rouge_l", "", "anything") == 0.0


def test_bleu_is_one_for_the_same_sentence_and_less_for_another():
    pytest.importorskip("sacrebleu")
    said = "the cat sat on the mat today"
    assert judged("bleu", said, said) == pytest.approx(1.0)
    assert 0 < judged("bleu", "the cat sat on a mat", said) < 1
    assert judged("bleu", "", said) == 0.0


@pytest.mark.parametrize(("name", "package"), [("rouge_l", "rouge-score"), ("bleu", "sacrebleu")])
def test_a_missing_library_is_named_with_how_to_install_it(monkeypatch, name: str, package: str):
    def refuse(wanted: str, package: str | None = None) -> None:
        raise ImportError(wanted)

    metrics._rouge.cache_clear()
    monkeypatch.setattr(metrics.importlib, "import_module", refuse)
    with pytest.raises(InvalidRequest, match=f"pip install {package}"):
        judged(name, "a", "b")
