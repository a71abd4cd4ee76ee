"""Writes the key -> shape fixtures of transformers in their original code's names beside it, and
those of ComfyUI's: `python -m tests.state_dicts.write_transformers`."""

from __future__ import annotations

from typing import Any

from tests.state_dicts import transformers as t
from tests.state_dicts.write import (
    KOHYA,
    PEFT,
    SGM,
    Fixture,
    Shapes,
    lokr,
    models,
    pair,
    ranks,
    underscored,
)

SGM_DOTTED = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "down_blocks.0.attentions.0.proj_in": "input_blocks.1.1.proj_in",
    "down_blocks.0.attentions.1.": "input_blocks.2.1.",
    "down_blocks.0.resnets.1.time_emb_proj": "input_blocks.2.0.emb_layers.1",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.3.0.op",
    "down_blocks.1.resnets.0.conv1": "input_blocks.4.0.in_layers.2",
    "down_blocks.1.resnets.0.conv_shortcut": "input_blocks.4.0.skip_connection",
    "mid_block.resnets.1.conv2": "middle_block.2.out_layers.3",
    "mid_block.attentions.0.": "middle_block.1.",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.2.2.conv",
    "up_blocks.2.attentions.2.proj_out": "output_blocks.8.1.proj_out",
    "conv_out": "out.2",
}


def transformers() -> None:
    """The original code's names, dotted and underscored, of each family's transformer."""
    shapes = {family: t.shapes_of(model) for family, model in t.models().items()}
    clip, t5 = models()["text"], shapes.pop("t5")
    names: dict[str, Any] = {
        "flux": t.flux,
        "sd3": t.sd3,
        "qwen-image": lambda: t.as_it_is(shapes["qwen-image"]),
        "z-image": lambda: t.z_image(shapes["z-image"]),
        "wan": t.wan,
        "hunyuan-video": t.hunyuan_video,
        "ltx-video": lambda: t.ltx_video(shapes["ltx-video"]),
    }

    def kohya_like(shape: tuple[int, ...], index: int) -> dict[str, list[int]]:
        return pair(shape, ranks(index), KOHYA) | {"alpha": []}

    def peft_like(shape: tuple[int, ...], index: int) -> dict[str, list[int]]:
        return pair(shape, 2, PEFT)

    def write(name: str, dialect: str, family: str, spell: Any, tensors: Any, **more: Any) -> None:
        fixture = Fixture(dialect, family=family, **more.pop("data", {}))
        given = more.get("names") or names[family]
        t.Writer(fixture, shapes[family]).add(given(), spell, tensors)
        for component, (start, kind) in more.get("encoders", {}).items():
            inside = t5 if kind == "t5" else clip
            spelled = underscored if start.startswith("lora_") else str
            t.Writer(fixture, inside, component).add(
                t.as_it_is(inside), lambda path, s=start, f=spelled: s + f(path), tensors
            )
        fixture.save(name)

    def under(start: str) -> Any:
        return lambda path: start + (underscored(path) if start.startswith("lora_") else path)

    for family in names:
        plain = family.replace("-", "_")
        write(f"original_{plain}", "original", family, under("diffusion_model."), peft_like)
        if family != "ltx-video":
            write(f"kohya_{plain}", "kohya", family, under("lora_unet_"), kohya_like)
    more_flux(write, under, kohya_like, peft_like)
    more_families(write, under, names, shapes, kohya_like)


def more_flux(write: Any, under: Any, kohya_like: Any, peft_like: Any) -> None:
    comfy = {
        "text_encoder": ("text_encoders.clip_l.transformer.", "clip"),
        "text_encoder_2": ("text_encoders.t5xxl.transformer.", "t5"),
    }
    write(
        "original_flux_encoders", "original", "flux", under("diffusion_model."), kohya_like,
        encoders=comfy,
    )  # fmt: skip
    te = {"text_encoder": ("lora_te1_", "clip"), "text_encoder_2": ("lora_te3_", "t5")}
    write("kohya_flux_encoders", "kohya", "flux", under("lora_unet_"), kohya_like, encoders=te)
    omi = {"text_encoder": ("clip_l.", "clip"), "text_encoder_2": ("t5.", "t5")}
    write(
        "original_flux_parts", "original", "flux", under("transformer."), kohya_like,
        names=lambda: t.flux(parts=True), encoders=omi,
    )  # fmt: skip
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 6}
    data = {"config": config}
    write(
        "original_flux_peft", "original", "flux", under("base_model.model."), peft_like, data=data
    )
    ways = iter(range(100))
    write(
        "kohya_flux_lokr", "kohya", "flux", under("lora_unet_"),
        lambda shape, index: lokr(shape, 2, next(ways)) | {"alpha": []},
        names=lambda: (o for o in t.flux() if len(o.paths) == 3 or "mlp" in o.name),
    )  # fmt: skip
    write(
        "kohya_flux_dora", "kohya", "flux", under("lora_unet_"),
        lambda shape, index: kohya_like(shape, index) | {"dora_scale": [shape[0], 1]},
    )  # fmt: skip
    diffusers_names = t.shapes_of(t.models()["flux"])
    old = {"text_encoder": ("lora_te1_", "clip"), "text_encoder_2": ("lora_te2_", "t5")}
    write(
        "kohya_flux_diffusers_names", "kohya", "flux", under("lora_transformer_"), kohya_like,
        names=lambda: t.as_it_is(diffusers_names), encoders=old,
    )  # fmt: skip
    xlabs(diffusers_names)


def xlabs(shapes: Shapes) -> None:
    fixture = Fixture("xlabs", family="flux")
    double, single = "transformer_blocks.0.", "single_transformer_blocks.0."
    modules = {
        "double_blocks.0.processor.qkv_lora1": [f"{double}attn.to_{n}" for n in "qkv"],
        "double_blocks.0.processor.qkv_lora2": [f"{double}attn.add_{n}_proj" for n in "qkv"],
        "double_blocks.0.processor.proj_lora1": [f"{double}attn.to_out.0"],
        "double_blocks.0.processor.proj_lora2": [f"{double}attn.to_add_out"],
        "single_blocks.0.processor.qkv_lora": [f"{single}attn.to_{n}" for n in "qkv"],
        "single_blocks.0.processor.proj_lora": [f"{single}proj_out"],
    }
    t.Writer(fixture, shapes).add(
        (t.Original(name, tuple(paths)) for name, paths in modules.items()),
        str,
        lambda shape, index: pair(shape, 3, ("down.weight", "up.weight")),
    )
    fixture.save("xlabs_flux")


def more_families(write: Any, under: Any, names: Any, shapes: Any, kohya_like: Any) -> None:
    encoders = {
        "text_encoder": ("lora_te1_", "clip"),
        "text_encoder_2": ("lora_te2_", "clip"),
        "text_encoder_3": ("lora_te3_", "t5"),
    }
    write("kohya_sd3_encoders", "kohya", "sd3", under("lora_unet_"), kohya_like, encoders=encoders)

    def default(shape: tuple[int, ...], index: int) -> dict[str, list[int]]:
        return pair(shape, 2, ("lora_A.default.weight", "lora_B.default.weight"))

    write("peft_qwen_image_default", "peft", "qwen-image", str, default)
    write("original_wan_default", "original", "wan", str, default)
    write(
        "original_z_image_split", "original", "z-image", under("diffusion_model."), kohya_like,
        names=lambda: t.as_it_is(shapes["z-image"]),
    )  # fmt: skip
    ways = iter(range(100))
    write(
        "original_z_image_lokr", "original", "z-image", under("diffusion_model."),
        lambda shape, index: lokr(shape, 2, next(ways)) | {"alpha": []},
        names=lambda: (
            t.Original(path, (path,))
            for path, shape in shapes["z-image"].items()
            if not any(n % 4 for n in shape)
        ),
    )  # fmt: skip
    two = Fixture("diffusers", family="wan")
    for component in ("transformer", "transformer_2"):
        t.Writer(two, shapes["wan"], component).add(
            t.as_it_is(shapes["wan"]),
            lambda path, c=component: f"{c}.{path}",
            lambda shape, index: pair(shape, 2, PEFT),
        )
    two.save("diffusers_wan_pair")
    unet = models()["unet"]
    dotted = Fixture("original")
    for name, shape in unet.items():
        first = next(start for start in SGM if name.startswith(start))
        stem = SGM_DOTTED[first] + name[len(first) :]
        dotted.add(f"diffusion_model.{stem}", f"unet.{name}", kohya_like(shape, len(stem)))
    for name, shape in models()["text"].items():
        for n, where in (("l", "text_encoder"), ("g", "text_encoder_2")):
            stem = f"text_encoders.clip_{n}.transformer.{name}"
            dotted.add(stem, f"{where}.{name}", kohya_like(shape, len(n)))
    dotted.save("original_sdxl")


if __name__ == "__main__":
    transformers()
