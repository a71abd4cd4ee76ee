"""Writes the key -> shape fixtures beside it, from the module names of small diffusers models:
`python -m tests.state_dicts.write [header.safetensors ...]`.

Names come from live modules, so that reading a fixture back is checked against the models' own
names; spellings are made here without the package's help. Files given on the command line add
fixtures of their headers, shapes only.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

HERE = Path(__file__).parent
Shapes = dict[str, tuple[int, ...]]

UNET = [
    "conv_in",
    "time_embedding.linear_1",
    "down_blocks.0.attentions.0.proj_in",
    "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q",
    "down_blocks.0.attentions.1.transformer_blocks.0.attn2.to_k",
    "down_blocks.0.attentions.1.transformer_blocks.0.attn2.to_out.0",
    "down_blocks.0.attentions.1.transformer_blocks.0.ff.net.0.proj",
    "down_blocks.0.attentions.1.transformer_blocks.0.ff.net.2",
    "down_blocks.0.resnets.1.time_emb_proj",
    "down_blocks.0.downsamplers.0.conv",
    "down_blocks.1.resnets.0.conv1",
    "down_blocks.1.resnets.0.conv_shortcut",
    "mid_block.resnets.1.conv2",
    "mid_block.attentions.0.transformer_blocks.0.attn1.to_v",
    "up_blocks.0.upsamplers.0.conv",
    "up_blocks.2.attentions.2.proj_out",
    "conv_out",
]
ATTENTION = [name for name in UNET if ".to_" in name]
TEXT = [
    "text_model.encoder.layers.0.self_attn.q_proj",
    "text_model.encoder.layers.1.self_attn.out_proj",
    "text_model.encoder.layers.1.mlp.fc1",
]
FLUX = [
    "transformer_blocks.0.attn.to_q",
    "transformer_blocks.0.attn.add_q_proj",
    "transformer_blocks.0.attn.to_out.0",
    "transformer_blocks.0.ff_context.net.2",
    "single_transformer_blocks.0.proj_mlp",
    "single_transformer_blocks.0.attn.to_k",
]
LLAMA = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"]
SGM = {
    "conv_in": "input_blocks_0_0",
    "time_embedding.linear_1": "time_embed_0",
    "down_blocks.0.attentions.0.proj_in": "input_blocks_1_1_proj_in",
    "down_blocks.0.attentions.1.": "input_blocks_2_1_",
    "down_blocks.0.resnets.1.time_emb_proj": "input_blocks_2_0_emb_layers_1",
    "down_blocks.0.downsamplers.0.conv": "input_blocks_3_0_op",
    "down_blocks.1.resnets.0.conv1": "input_blocks_4_0_in_layers_2",
    "down_blocks.1.resnets.0.conv_shortcut": "input_blocks_4_0_skip_connection",
    "mid_block.resnets.1.conv2": "middle_block_2_out_layers_3",
    "mid_block.attentions.0.": "middle_block_1_",
    "up_blocks.0.upsamplers.0.conv": "output_blocks_2_2_conv",
    "up_blocks.2.attentions.2.proj_out": "output_blocks_8_1_proj_out",
    "conv_out": "out_2",
}


def weights(model: nn.Module, names: list[str]) -> Shapes:
    modules = dict(model.named_modules())
    return {name: tuple(modules[name].weight.shape) for name in names}


def models() -> dict[str, Shapes]:
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=8,
            layers_per_block=2,
            block_out_channels=(8, 16, 16),
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=24,
            attention_head_dim=4,
            norm_num_groups=4,
        )
        text = CLIPTextModelWithProjection(
            CLIPTextConfig(
                hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2
            )
        )
        flux = FluxTransformer2DModel(
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=12,
            pooled_projection_dim=12,
            axes_dims_rope=(2, 2, 4),
        )
    return {
        "unet": weights(unet, UNET),
        "text": weights(text, TEXT),
        "flux": weights(flux, FLUX),
        "llama": dict.fromkeys(LLAMA, (20, 24)),
    }


def pair(shape: tuple[int, ...], rank: int, names: tuple[str, str]) -> dict[str, list[int]]:
    """Down and up of a linear layer, or of a convolution in four dimensions."""
    ones = [1] * (len(shape) - 2)
    return {names[0]: [rank, *shape[1:]], names[1]: [shape[0], rank, *ones]}


def flat(shape: tuple[int, ...]) -> tuple[int, int]:
    size = 1
    for n in shape[1:]:
        size *= n
    return shape[0], size


def loha(shape: tuple[int, ...], rank: int, core: bool) -> dict[str, list[int]]:
    if core and shape[2:] == (3, 3):
        sides = {"w1_a": [rank, shape[0]], "w1_b": [rank, shape[1]]}
        sides |= {"w2_a": [rank, shape[0]], "w2_b": [rank, shape[1]]}
        sides |= {"t1": [rank, rank, 3, 3], "t2": [rank, rank, 3, 3]}
    else:
        out, into = flat(shape)
        sides = {"w1_a": [out, rank], "w1_b": [rank, into]}
        sides |= {"w2_a": [out, rank], "w2_b": [rank, into]}
    return {f"hada_{name}": size for name, size in sides.items()}


def lokr(shape: tuple[int, ...], rank: int, way: int) -> dict[str, list[int]]:
    """`way` goes round the forms: whole or split first factor, whole, split or cored second."""
    out, into, kernel = (4, shape[0] // 4), (4, shape[1] // 4), list(shape[2:])
    found: dict[str, list[int]]
    if way % 2:
        found = {"w1": [out[0], into[0]]}
    else:
        found = {"w1_a": [out[0], rank], "w1_b": [rank, into[0]]}
    if way % 3 == 0:
        found["w2"] = [out[1], into[1], *kernel]
    elif way % 3 == 1 and kernel == [3, 3]:
        found |= {"w2_a": [rank, out[1]], "w2_b": [rank, into[1]], "t2": [rank, rank, 3, 3]}
    else:
        found |= {"w2_a": [out[1], rank], "w2_b": [rank, flat((1, into[1], *shape[2:]))[1]]}
    return {f"lokr_{name}": size for name, size in found.items()}


class Fixture:
    """Tensors, and which canonical module each stem of their names stands for."""

    def __init__(self, dialect: str, between: str = ".", **more: Any) -> None:
        self.between = between
        self.data: dict[str, Any] = {"dialect": dialect, "modules": {}, "tensors": {}, **more}

    def add(self, stem: str, canonical: Any, tensors: dict[str, list[int]]) -> None:
        """`canonical`: a module, or module -> spans of the rows that are its rows."""
        self.data["modules"][stem] = canonical
        self.data["tensors"] |= {
            f"{stem}{self.between}{tail}": size for tail, size in tensors.items()
        }

    def save(self, name: str) -> None:
        text = json.dumps(self.data, indent=0, sort_keys=True)
        (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")


PEFT = ("lora_A.weight", "lora_B.weight")
KOHYA = ("lora_down.weight", "lora_up.weight")


def ranks(index: int) -> int:
    return (2, 2, 3, 1)[index % 4]


def peft(found: dict[str, Shapes]) -> None:
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "a/base"}
    pattern = {"conv_in": 1, "mid_block.resnets.1.conv2": 6}
    unet = Fixture("peft", config={**config, "alpha_pattern": pattern, "rank_pattern": {"x": 3}})
    for index, (name, shape) in enumerate(found["unet"].items()):
        unet.add(f"base_model.model.{name}", f"unet.{name}", pair(shape, ranks(index), PEFT))
    unet.save("peft_unet")
    whole = Fixture("peft", config={**config, "use_rslora": True})
    for name, shape in found["unet"].items():
        whole.add(f"base_model.model.unet.{name}", f"unet.{name}", pair(shape, 2, PEFT))
    for name, shape in found["text"].items():
        where = f"text_encoder.{name}"
        whole.add(f"base_model.model.{where}", where, pair(shape, 2, PEFT))
    whole.save("peft_pipeline")
    for kind, first in (("flux", "transformer."), ("llama", "")):
        fixture = Fixture("peft", config=config)
        for name, shape in found[kind].items():
            fixture.add(f"base_model.model.{name}", f"{first}{name}", pair(shape, 2, PEFT))
        fixture.save(f"peft_{kind}")
    dora = Fixture("peft", config={**config, "use_dora": True})
    for name, shape in found["unet"].items():
        size = [1, shape[0], 1, 1] if len(shape) == 4 else [shape[0]]
        tensors = pair(shape, 2, PEFT) | {"lora_magnitude_vector": size}
        dora.add(f"base_model.model.{name}", f"unet.{name}", tensors)
    dora.save("peft_dora")


def diffusers(found: dict[str, Shapes]) -> None:
    header = {
        "unet.r": 2,
        "unet.lora_alpha": 6,
        "unet.alpha_pattern": {"^conv_in": 1},
        "text_encoder.r": 2,
        "text_encoder.lora_alpha": 3,
        "text_encoder.use_rslora": True,
    }
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(header)}
    fixture = Fixture("diffusers", metadata=metadata)
    for name, shape in found["unet"].items():
        fixture.add(f"unet.{name}", f"unet.{name}", pair(shape, 2, PEFT))
    for name, shape in found["text"].items():
        bare = name.removeprefix("text_model.")
        fixture.add(f"text_encoder.{bare}", f"text_encoder.{name}", pair(shape, 2, PEFT))
    fixture.save("diffusers_sd")
    flux = Fixture("diffusers")
    for name, shape in found["flux"].items():
        flux.add(f"transformer.{name}", f"transformer.{name}", pair(shape, 2, PEFT))
    flux.save("diffusers_flux")
    old = Fixture("attention-processor")
    for name in ATTENTION:
        stem, _, leaf = name.removesuffix(".0").rpartition(".")
        spelled = f"unet.{stem}.processor.{leaf}_lora"
        old.add(spelled, f"unet.{name}", pair(found["unet"][name], 2, ("down.weight", "up.weight")))
    for name, shape in found["text"].items():
        names = ("down.weight", "up.weight")
        where = f"text_encoder.{name}"
        old.add(f"{where}.lora_linear_layer", where, pair(shape, 2, names))
    old.save("attention_processor")


def underscored(name: str) -> str:
    return name.replace(".", "_")


def sgm(name: str) -> str:
    first = next(start for start in SGM if name.startswith(start))
    return SGM[first] + underscored(name[len(first) :])


def kohya(found: dict[str, Shapes]) -> None:
    sd = Fixture("kohya", metadata={"ss_base_model_version": "sd_v1"})
    for index, (name, shape) in enumerate(found["unet"].items()):
        rank = ranks(index)
        tensors: dict[str, list[int]] = pair(shape, rank, KOHYA) | {"alpha": []}
        if shape[2:] == (3, 3) and index % 2:
            down = [rank, shape[1], 1, 1]
            tensors |= {"lora_down.weight": down, "lora_mid.weight": [rank, rank, 3, 3]}
        sd.add(f"lora_unet_{underscored(name)}", f"unet.{name}", tensors)
    for name, shape in found["text"].items():
        tensors = pair(shape, 3, KOHYA) | {"alpha": [1]}
        sd.add(f"lora_te_{underscored(name)}", f"text_encoder.{name}", tensors)
    sd.save("kohya_sd")
    xl = Fixture("kohya")
    for name, shape in found["unet"].items():
        xl.add(f"lora_unet_{sgm(name)}", f"unet.{name}", pair(shape, 2, KOHYA) | {"alpha": []})
    for name, shape in found["text"].items():
        for n, where in (("1", "text_encoder"), ("2", "text_encoder_2")):
            stem = f"lora_te{n}_{underscored(name)}"
            xl.add(stem, f"{where}.{name}", pair(shape, 2, KOHYA) | {"alpha": []})
    xl.save("kohya_xl_original_names")
    doubled = Fixture("kohya")
    for name in ATTENTION:
        stem = f"lora_unet_unet_{underscored(name)}"
        doubled.add(stem, f"unet.{name}", pair(found["unet"][name], 2, KOHYA))
    doubled.save("kohya_doubled_prefix")
    dora = Fixture("kohya")
    for index, (name, shape) in enumerate(found["unet"].items()):
        tensors = pair(shape, 2, KOHYA) | {"alpha": []}
        if index % 2:
            tensors["dora_scale"] = [shape[0], *[1] * (len(shape) - 1)]
        dora.add(f"lora_unet_{underscored(name)}", f"unet.{name}", tensors)
    dora.save("kohya_dora")


def lycoris(found: dict[str, Shapes]) -> None:
    for kind in ("loha", "lokr"):
        near = Fixture("kohya")
        far = Fixture(
            "peft",
            config={
                "peft_type": kind.upper(),
                "r": 2,
                "alpha": 6,
                "rank_pattern": {"mid_block.resnets.1.conv2": 3},
                "alpha_pattern": {"conv_out": 5},
            },
        )
        named = [name for name in found["unet"] if kind == "loha" or not name.startswith("conv_")]
        for way, name in enumerate(named):
            shape = found["unet"][name]
            rank = 3 if name == "mid_block.resnets.1.conv2" else 2
            tensors = loha(shape, rank, way % 2 == 0) if kind == "loha" else lokr(shape, rank, way)
            far.add(f"base_model.model.{name}", f"unet.{name}", tensors)
            near.add(f"lora_unet_{underscored(name)}", f"unet.{name}", tensors | {"alpha": []})
        near.save(f"{kind}_kohya")
        far.save(f"{kind}_peft")


def whole(found: dict[str, Shapes]) -> None:
    """GLoRA, whose part that needs the base is zero in these, and whole updates."""
    glora, full = Fixture("kohya"), Fixture("kohya")
    for index, (name, shape) in enumerate(found["unet"].items()):
        if shape[2:] == (3, 3):
            full.add(f"lora_unet_{underscored(name)}", f"unet.{name}", {"diff": [*shape]})
            continue
        d_out, d_in, ones = shape[0], shape[1], [1] * (len(shape) - 2)
        b = {"b1.weight": [d_out, 2], "b2.weight": [2, d_in]}
        if index % 2:  # as LyCORIS once had them
            b = {"b2.weight": [d_out, 2], "b1.weight": [2, d_in]}
        sizes = {"a1.weight": [d_in, 2], "a2.weight": [2, d_in], **b}
        tensors = {key: [*size, *ones] for key, size in sizes.items()} | {"alpha": []}
        glora.add(f"lora_unet_{underscored(name)}", f"unet.{name}", tensors)
        tensors = {"diff": [*shape], "diff_b": [d_out]} if index % 2 else {"diff": [*shape]}
        full.add(f"lora_unet_{underscored(name)}", f"unet.{name}", tensors)
    glora.data["zero"], full.data["zero"] = [".a1.weight"], [".diff_b"]
    glora.save("glora_kohya")
    full.save("whole_kohya")


def other_names(found: dict[str, Shapes]) -> None:
    """MLX's and cloneofsimo's names, and PEFT's methods whose files say the sizes of layers."""
    config = {
        "fine_tune_type": "dora",
        "model": "a/base",
        "lora_parameters": {"rank": 2, "scale": 1.5},
    }
    for name, sizes in (("mlx_lora", {}), ("mlx_dora", {"m": [20]})):
        mlx = Fixture("mlx", config=config)
        for path in found["llama"]:
            mlx.add(path, path, {"lora_a": [24, 2], "lora_b": [2, 20], **sizes})
        mlx.save(name)
    numbered = Fixture("cloneofsimo", metadata={"text_encoder": '["CLIPAttention"]'}, between=":")
    for layer in range(2):
        for n, leaf in enumerate(("k_proj", "v_proj", "q_proj", "out_proj")):
            path = f"text_encoder.text_model.encoder.layers.{layer}.self_attn.{leaf}"
            stem = f"text_encoder:{4 * layer + n}"
            numbered.add(stem, path, {"down": [2, 24], "up": [24, 2]})
    numbered.data["tensors"]["<word>"] = [768]
    numbered.save("cloneofsimo_text_encoder")
    adalora = Fixture("peft-tuner", config={"peft_type": "ADALORA", "lora_alpha": 6, "r": 8})
    delora = Fixture("peft-tuner", config={"peft_type": "DELORA", "r": 2})
    for path, (d_out, d_in) in found["llama"].items():
        sizes = {"A": [2, d_in], "B": [d_out, 2]}
        stem, lora = f"base_model.model.{path}", {f"lora_{k}": v for k, v in sizes.items()}
        adalora.add(stem, path, lora | {"lora_E": [2, 1]})
        norms = {"delora_lambda": [1], "delora_w_norm": [d_in]}
        delora.add(stem, path, {f"delora_{k}": v for k, v in sizes.items()} | norms)
    adalora.save("peft_adalora")
    delora.save("peft_delora")


def mixtures() -> None:
    """Files with routers, which no dialect reads; what should be said of each."""
    layer = "base_model.model.model.layers.{}.self_attn.q_proj"
    smora, flylora, copies = ({} for _ in range(3))
    mixlora, mola, base_routes = ({} for _ in range(3))
    for n in range(2):
        stem = layer.format(n)
        plain = {f"{stem}.lora_A.weight": [8, 24], f"{stem}.lora_B.weight": [20, 8]}
        smora |= plain | {f"{stem}.lora_router.weight": [8, 24], f"{stem}.lora_biases": [8]}
        flylora |= plain | {f"{stem}.lora_topk_bias": [8]}
        for expert in range(3):
            copies[f"{stem}.lora_A.{expert}.weight"] = [4, 24]
            copies[f"{stem}.lora_B.{expert}.weight"] = [20, 4]
            for kind, path in ((mixlora, "mlp.up_proj"), (mola, "self_attn.q_proj")):
                name = "mixlora" if kind is mixlora else "mola"
                one = f"{name}.layers.{n}.{path}.experts.{expert}"
                kind |= {f"{one}.lora_A.weight": [4, 24], f"{one}.lora_B.weight": [20, 4]}
            one = f"base_model.model.model.layers.{n}.mlp.experts.{expert}.w1"
            base_routes |= {f"{one}.lora_A.weight": [4, 24], f"{one}.lora_B.weight": [20, 4]}
        mixlora[f"mixlora.layers.{n}.mlp.moe_gate.weight"] = [3, 24]
        mola[f"mola.layers.{n}.self_attn.q_proj.moe_gate.weight"] = [3, 24]
        one = f"base_model.model.model.layers.{n}.mlp.gate"
        base_routes |= {f"{one}.lora_A.weight": [2, 24], f"{one}.lora_B.weight": [3, 2]}
    files = {
        "smora": (smora, {"name": "SMoRA", "routers": 2, "experts": 0, "ranks": [8]}),
        "flylora": (flylora, {"name": "FlyLoRA", "routers": 2, "experts": 0, "ranks": [8]}),
        "mixlora": (mixlora, {"name": "MixLoRA", "routers": 2, "experts": 3, "ranks": [4]}),
        "mola": (mola, {"name": "MoLA", "routers": 2, "experts": 3, "ranks": [4]}),
        "numbered_copies": (copies, {"name": "", "routers": 0, "experts": 3, "ranks": [4]}),
        "base_routes": (base_routes, None),
    }
    folder = HERE / "mixtures"
    folder.mkdir(exist_ok=True)
    for name, (tensors, expected) in files.items():
        text = json.dumps({"tensors": tensors, "found": expected}, indent=0, sort_keys=True)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def of_header(path: Path) -> None:
    """A few small modules of someone's file, so that the fixture is soon read."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header.pop("__metadata__", None)
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
    live = [
        name
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.numel() < 1_000_000
    ]
    is_kohya = any(key.startswith("lora_") for key in header)
    fixture = Fixture("kohya" if is_kohya else "attention-processor")
    stems: dict[str, str] = {}
    for name in live:
        if is_kohya:
            stems[f"lora_unet_{underscored(name)}"] = f"unet.{name}"
        else:
            stem, _, leaf = name.removesuffix(".0").rpartition(".")
            stems[f"{stem}.processor.{leaf}_lora"] = f"unet.{name}"
    for layer in range(12):
        name = f"text_model.encoder.layers.{layer}.self_attn.q_proj"
        stems[f"lora_te_{underscored(name)}"] = f"text_encoder.{name}"
    present = sorted({stem for stem in stems if any(k.startswith(f"{stem}.") for k in header)})
    for stem in present[:: max(1, len(present) // 6)]:
        tails = {k: v["shape"] for k, v in header.items() if k.startswith(f"{stem}.")}
        fixture.add(stem, stems[stem], {k.removeprefix(f"{stem}."): v for k, v in tails.items()})
    fixture.save(f"from_{path.stem}")


def main() -> None:
    found = models()
    for write in (peft, diffusers, kohya, lycoris, whole, other_names):
        write(found)
    mixtures()
    for path in sys.argv[1:]:
        of_header(Path(path))


if __name__ == "__main__":
    main()
