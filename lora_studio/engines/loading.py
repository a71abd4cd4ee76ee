"""Which device and number type a base model runs in, and how it is loaded from a folder or the
Hub. Every way to fail ends in a message that says what to do next."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from huggingface_hub.constants import ENDPOINT
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from lora_studio.errors import InvalidRequest, LoraStudioError, NotFound
from lora_studio.families import resolve_base
from lora_studio.settings import DEMO_BASE

log = logging.getLogger(__name__)

HUB_SECONDS = 5.0

FLOAT32_PARAMETERS = 1_200_000_000
"""On a CPU, models up to this size run in float32; larger ones in their own type."""


def choose_device(name: str) -> torch.device:
    """ "auto" is the first GPU if there is one; raises InvalidRequest for a device not there."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidRequest(f"'{name}' is no device; use auto, cpu, cuda or cuda:0.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InvalidRequest(
            f"There is no device '{name}': {torch.cuda.device_count()} GPUs are visible. "
            "Use auto or cpu."
        )
    return torch.device("cuda:0") if name == "cuda" else device


def device_title(device: torch.device) -> str:
    """ "CPU", or the name of the GPU behind its number."""
    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    return device.type.upper() if device.type == "cpu" else str(device)


def choose_dtype(config: Any, device: torch.device) -> torch.dtype | str:
    """The model's own type on a GPU; on a CPU float32 unless the model is large."""
    if device.type != "cpu":
        return "auto"
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    return torch.float32 if size <= FLOAT32_PARAMETERS else "auto"


def load_base(base: str | Path, device: torch.device) -> tuple[PreTrainedModel, Any]:
    """Model in eval mode on `device`, and its tokenizer. Code from a repository is never run and
    only safetensors weights are read.

    Raises:
        LoraStudioError: it cannot be loaded; the message says why and what to do.
    """
    where = resolve_base(str(base))
    if base == DEMO_BASE and not (Path(where) / "config.json").is_file():
        raise NotFound(f"The embedded demo model is missing from {where}. Run `make demo`.")
    local = Path(where).is_dir() or hub_is_away()
    given: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local}
    try:
        config = AutoConfig.from_pretrained(where, **given)
        tokenizer = AutoTokenizer.from_pretrained(where, **given)
        dtype = choose_dtype(config, device)
        model: Any = AutoModelForCausalLM.from_pretrained(
            where, dtype=dtype, use_safetensors=True, **given
        )
        model = model.to(device).eval().requires_grad_(False)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise LoraStudioError(
            f"'{base}' does not fit in the memory of {device_title(device)}. Choose a smaller "
            "model, or a device with more memory."
        ) from error
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        log.exception("loading base model %s", base)
        raise LoraStudioError(explain(base, error, "causal language model")) from error
    return model, tokenizer


def hub_is_away() -> bool:
    """Whether the Hub does not answer, so that a laptop without network need not wait through the
    Hub library's retries. Not asked where a proxy stands in between."""
    if getproxies():
        return False
    address = urlsplit(ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=HUB_SECONDS).close()
    except OSError:
        return True
    return False


def explain(base: str | Path, error: Exception, kind: str) -> str:
    """Why a base model of this kind could not be loaded, and what to do."""
    files = {
        "causal language model": "config.json, safetensors weights and a tokenizer",
        "diffusers pipeline": "model_index.json and a folder with safetensors for each part",
    }[kind]
    text = str(error)
    lower = text.lower()
    if "can't allocate memory" in lower or "out of memory" in lower:
        return f"'{base}' does not fit in memory. Choose a smaller model or free some memory."
    if "trust_remote_code" in lower or "custom code" in lower:
        return (
            f"'{base}' needs code from its own repository, which is never run here. Choose a model "
            "that the libraries know themselves."
        )
    if "gated" in lower or "401" in lower or "403" in lower:
        return (
            f"'{base}' is private or gated. Accept its terms on the Hub and set HF_TOKEN for the "
            "server, or choose another model."
        )
    if Path(str(base)).is_dir():
        return (
            f"The folder '{base}' could not be loaded as a {kind} "
            f"({_first_line(text)}). It needs {files}."
        )
    if "safetensors" in lower:
        return f"'{base}' has no safetensors weights. Choose a model that ships them."
    if "connect" in lower or "offline" in lower or "resolve" in lower or "couldn't reach" in lower:
        return (
            f"'{base}' is not on this machine and the Hugging Face Hub could not be reached. Check "
            "the network (and HF_HUB_OFFLINE), or give the path of a local folder."
        )
    return (
        f"'{base}' could not be loaded ({_first_line(text)}). Check the spelling of the Hub id, or "
        f"give the path of a local folder with {files}."
    )


def _first_line(text: str, limit: int = 160) -> str:
    line = text.strip().splitlines()[0] if text.strip() else "no reason given"
    return line if len(line) <= limit else line[:limit] + "…"
