"""Rows of one batch stop, stream and draw apart, and equal what they are alone."""

from __future__ import annotations

import math

import pytest
import torch

from lora_studio.adapter import Adapter
from lora_studio.engines.loading import load_base
from lora_studio.engines.text import Row, RowPlan, Sampling, ScoreRow, TextEngine
from lora_studio.errors import Cancelled, InvalidRequest, LoraStudioError, NotFound

PROMPTS = ["hello", "a rather longer prompt than the others", "x", "mid length one", "été", "z?"]
PLANS = [
    RowPlan(),
    RowPlan((("a", 1.0),)),
    RowPlan((("b", 0.5), ("c", 0.5))),
    RowPlan((("a", 0.3), ("b", 0.7)), fuse=True),
    RowPlan((("c", -1.0),)),
]


def make_rows(count: int, **style) -> list[Row]:
    return [
        Row(
            id=str(i),
            prompt=PROMPTS[i % len(PROMPTS)],
            plan=PLANS[i % len(PLANS)],
            sampling=Sampling(max_new_tokens=5 + 7 * i % 23, **style),
            seed=100 + i,
        )
        for i in range(count)
    ]


def ids_of(engine, rows, **more):
    return {row.id: row.token_ids for row in engine.generate(rows, **more).rows}


@pytest.mark.parametrize(
    "style",
    [
        {},
        {"temperature": 0.9},
        {"temperature": 1.3, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.2},
    ],
)
def test_every_row_equals_running_alone_while_rows_join_and_leave(engine, style):
    rows = make_rows(11, **style)
    together = ids_of(engine, rows)
    assert len(set(together.values())) > 6
    for row in rows:
        assert ids_of(engine, [row])[row.id] == together[row.id]


def test_order_and_neighbours_do_not_matter_to_a_seed(engine):
    rows = make_rows(6, temperature=1.0)
    assert ids_of(engine, rows) == ids_of(engine, rows[::-1])
    other = [Row(r.id, r.prompt, r.plan, r.sampling, r.seed + 1) for r in rows]
    assert ids_of(engine, other) != ids_of(engine, rows)


def test_greedy_decoding_equals_transformers_generate(engine, model_folder):
    model, tokenizer = load_base(model_folder("llama"), torch.device("cpu"))
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        theirs = model.generate(ids, max_new_tokens=20, do_sample=False, pad_token_id=257)
        row = Row("r", prompt, sampling=Sampling(max_new_tokens=20))
        assert list(ids_of(engine, [row])["r"]) == theirs[0, ids.shape[1] :].tolist()


def test_repetition_penalty_equals_transformers(engine, model_folder):
    model, tokenizer = load_base(model_folder("llama"), torch.device("cpu"))
    ids = tokenizer("abcabc", return_tensors="pt").input_ids
    theirs = model.generate(
        ids, max_new_tokens=20, do_sample=False, pad_token_id=257, repetition_penalty=1.7
    )
    row = Row("r", "abcabc", sampling=Sampling(max_new_tokens=20, repetition_penalty=1.7))
    assert list(ids_of(engine, [row])["r"]) == theirs[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("kind", ["sliding", "gpt2"])
def test_other_caches_and_positions_keep_rows_equal_to_running_alone(kind, engine_of):
    engine = engine_of(kind)
    assert engine.decoder.can_join == (kind == "gpt2")
    rows = [
        Row(str(i), PROMPTS[i % 4], sampling=Sampling(max_new_tokens=6 + 5 * i % 17))
        for i in range(9)
    ]
    together = ids_of(engine, rows)
    for row in rows:
        assert ids_of(engine, [row])[row.id] == together[row.id]


def test_sampling_follows_the_model_distribution(engine):
    style = Sampling(temperature=1.0, max_new_tokens=1, top_k=3)
    rows = [Row(str(i), "hello", sampling=style, seed=i) for i in range(300)]
    counts: dict[int, int] = {}
    for tokens in ids_of(engine, rows).values():
        counts[tokens[0]] = counts.get(tokens[0], 0) + 1
    ids = torch.tensor([engine.prompt_ids("hello")])
    with torch.inference_mode():
        best = engine.model(input_ids=ids).logits[0, -1].topk(3)
    expected = dict(zip(best.indices.tolist(), best.values.softmax(0).tolist(), strict=True))
    assert counts.keys() <= expected.keys()
    for token, share in expected.items():
        spread = 4 * math.sqrt(share * (1 - share) / 300) + 1e-9
        assert abs(counts.get(token, 0) / 300 - share) < spread


def test_a_tiny_top_p_is_greedy(engine):
    greedy = make_rows(4)
    narrow = make_rows(4, temperature=2.0, top_p=1e-6)
    assert ids_of(engine, greedy) == ids_of(engine, narrow)


def test_rows_stop_at_the_end_token_and_its_text_is_not_shown(engine):
    row = Row("r", "hello", sampling=Sampling(max_new_tokens=30))
    free = engine.generate([row]).rows[0]
    assert free.stop == "length"
    assert free.tokens == 30
    ends, engine.ends = engine.ends, frozenset({free.token_ids[4]})
    engine.decoder.ends = engine.ends
    try:
        short = engine.generate([row, *make_rows(3)]).rows[0]
    finally:
        engine.ends = engine.decoder.ends = ends
    first = free.token_ids.index(free.token_ids[4])
    assert short.stop == "eos"
    assert short.token_ids == free.token_ids[: first + 1]
    assert short.text == engine.tokenizer.decode(short.token_ids[:-1])


def test_updates_grow_to_the_final_text_and_mark_the_end(engine, monkeypatch):
    monkeypatch.setattr("lora_studio.engines.streaming.INTERVAL", 0.0)
    seen: dict[str, list] = {}

    def collect(updates):
        for update in updates:
            seen.setdefault(update.id, []).append(update)

    result = engine.generate(make_rows(7), on_tokens=collect)
    for row in result.rows:
        updates = seen[row.id]
        assert [u.tokens for u in updates] == list(range(1, row.tokens + 1))
        assert [u.done for u in updates] == [False] * (row.tokens - 1) + [True]
        assert updates[-1].text == row.text
        assert not any(u.text.endswith("\ufffd") for u in updates[:-1])
    assert result.tokens == sum(row.tokens for row in result.rows)
    assert result.tokens_per_second == pytest.approx(result.tokens / result.seconds)


def test_updates_are_thinned_out(engine):
    calls = []
    result = engine.generate(make_rows(4), on_tokens=calls.append)
    assert len(calls) <= 2 + result.seconds / 0.05


def test_cancel_keeps_what_there_is(engine):
    steps = 0

    def check():
        nonlocal steps
        steps += 1
        if steps > 4:
            raise Cancelled("stop")

    rows = [Row(str(i), "hello", sampling=Sampling(max_new_tokens=90)) for i in range(6)]
    result = engine.generate(rows, check=check)
    assert [row.stop for row in result.rows] == ["cancelled"] * 6
    assert 0 < result.tokens < 40
    assert engine.generate(make_rows(2)).rows[0].stop == "length"


def test_an_adapter_of_nans_stops_its_own_row_only(engine, make_adapter):
    broken = make_adapter(9).scaled(float("nan"))
    engine.bank.add("nan", Adapter(broken.factors))
    plain = make_rows(3, temperature=0.7)
    rows = [*plain, Row("bad", "hello", RowPlan((("nan", 1.0),)), Sampling(temperature=0.5))]
    result = engine.generate(rows)
    assert result.rows[3].stop == "invalid"
    assert result.rows[3].tokens == 0
    assert {row.id: row.token_ids for row in result.rows[:3]} == ids_of(engine, plain)


def test_scores_equal_a_plain_forward_pass(engine):
    rows = [
        ScoreRow(str(i), PROMPTS[i % 6], ["no", "answer here", "ça"][i % 3], PLANS[i % 5])
        for i in range(9)
    ]
    for row, score in zip(rows, engine.score(rows), strict=True):
        prompt = engine.prompt_ids(row.prompt)
        target = [*engine.tokenizer(row.target).input_ids, 256]
        with torch.inference_mode(), engine.bank.rows([row.plan]):
            logits = engine.model(input_ids=torch.tensor([prompt + target])).logits[0]
        gains = logits[len(prompt) - 1 : -1].log_softmax(1)[range(len(target)), target]
        assert score.id == row.id
        assert score.tokens == len(target)
        assert score.logprob == pytest.approx(float(gains.mean()), abs=1e-4)
        assert not score.exact


def test_exact_means_what_greedy_decoding_would_say(engine, monkeypatch):
    row = Row("r", "hello", RowPlan((("a", 1.0),)), Sampling(max_new_tokens=6))
    said = list(engine.generate([row]).rows[0].token_ids)
    wrong = [*said[:-1], (said[-1] + 1) % 256]
    answers = {"said": said, "wrong": wrong, "start": said[:2]}
    prompt = engine.prompt_ids("hello")
    monkeypatch.setattr(engine, "_target", lambda row: (prompt, answers[row.target]))
    rows = [ScoreRow(name, "hello", name, row.plan) for name in answers]
    assert [score.exact for score in engine.score(rows)] == [True, False, True]


def test_scoring_a_sliding_model_equals_one_row_at_a_time(engine_of):
    engine = engine_of("sliding")
    rows = [ScoreRow(str(i), PROMPTS[i % 4], "word" * (1 + i % 2)) for i in range(7)]
    together = engine.score(rows)
    for row, score in zip(rows, together, strict=True):
        assert engine.score([row])[0].logprob == pytest.approx(score.logprob, abs=1e-5)


def test_a_chat_template_frames_the_prompt(engine):
    plain = engine.prompt_ids("hi")
    engine.tokenizer.chat_template = (
        "{% for turn in messages %}[{{ turn.content }}]{% endfor %}"
        "{% if add_generation_prompt %}>{% endif %}"
    )
    try:
        framed = engine.prompt_ids("hi")
    finally:
        engine.tokenizer.chat_template = None
    assert engine.tokenizer.decode(framed) == "[hi]>"
    assert engine.tokenizer.decode(plain) == "hi"


def test_an_empty_prompt_still_generates(engine):
    assert engine.generate([Row("r", "")]).rows[0].tokens > 0


def test_prompts_too_long_are_refused_and_answers_are_cut_to_fit(engine):
    with pytest.raises(InvalidRequest, match="128"):
        engine.generate([Row("r", "y" * 128)])
    result = engine.generate([Row("r", "y" * 120, sampling=Sampling(max_new_tokens=50))])
    assert result.rows[0].tokens == 8
    assert result.rows[0].stop == "length"


def test_unknown_adapters_and_wrong_settings_are_named(engine):
    with pytest.raises(NotFound, match="nobody"):
        engine.generate([Row("r", "hi", RowPlan((("nobody", 1.0),)))])
    with pytest.raises(InvalidRequest, match="top_p"):
        Sampling(top_p=0.0)
    with pytest.raises(InvalidRequest, match="temperature"):
        Sampling.from_dict({"temperature": "hot"})
    assert Sampling.from_dict({"temperature": "0.5", "top_k": 3, "else": 1}).top_k == 3


def test_a_model_that_cannot_be_loaded_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(LoraStudioError, match="needs config"):
        TextEngine(tmp_path, device="cpu")
    with pytest.raises(LoraStudioError, match="local folder"):
        TextEngine("nobody/no-such-model", device="cpu")
    with pytest.raises(InvalidRequest, match="auto or cpu"):
        TextEngine(tmp_path, device="cuda:99")
    with pytest.raises(InvalidRequest, match="no device"):
        TextEngine(tmp_path, device="toaster")


def test_a_large_model_on_a_cpu_keeps_its_own_type(model_folder, monkeypatch):
    monkeypatch.setattr("lora_studio.engines.loading.FLOAT32_PARAMETERS", 10)
    model, _ = load_base(model_folder("llama"), torch.device("cpu"))
    assert model.dtype == torch.float32
    half = model.to(torch.bfloat16)
    folder = model_folder("llama") / "half"
    half.save_pretrained(folder)
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(model_folder("llama")).save_pretrained(folder)
    assert load_base(folder, torch.device("cpu"))[0].dtype == torch.bfloat16
    monkeypatch.setattr("lora_studio.engines.loading.FLOAT32_PARAMETERS", 1 << 40)
    assert load_base(folder, torch.device("cpu"))[0].dtype == torch.float32


def test_an_answer_is_scored_as_the_chat_template_writes_it(engine, monkeypatch):
    """Templates may put a space or a line break before an answer; it belongs to the target."""
    template = (
        "{% for m in messages %}{{ '[' + m['role'] + ']' }}"
        "{{ ' ' if m['role'] == 'assistant' else '' }}{{ m['content'] | trim }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
    )
    monkeypatch.setattr(engine.tokenizer, "chat_template", template)
    prompt, target = engine._target(ScoreRow("0", "hi", "yes"))
    assert engine.tokenizer.decode(prompt) == "[user]hi[assistant]"
    assert engine.tokenizer.decode(target[:-1]) == " yes"
    assert target[-1] in engine.ends


def test_generated_ids_can_be_scored_as_they_are(engine):
    row = Row("0", "hello", RowPlan(), Sampling(max_new_tokens=6), 0)
    (made,) = engine.generate([row]).rows
    (score,) = engine.score([ScoreRow("0", "hello", made.token_ids)])
    assert score.exact
    assert score.tokens == made.tokens
