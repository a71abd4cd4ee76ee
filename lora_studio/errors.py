"""The errors people meet. Every message says what went wrong and what to do next."""

from __future__ import annotations

from lora_studio.refusals import Refusal


class LoraStudioError(Exception):
    """Base of all errors raised on purpose; its text may be shown to a user as it stands."""


class InvalidAdapter(LoraStudioError):
    """A file is not an adapter that can be read, with the reason and a way out.

    `refusal` is the reason's stable code.
    """

    def __init__(self, message: str, refusal: Refusal = "structure") -> None:
        super().__init__(message)
        self.refusal = refusal


class IncompatibleAdapters(LoraStudioError):
    """Adapters that cannot be combined: different base models or module shapes."""


class InvalidRequest(LoraStudioError):
    """A request with a bad value: names the field, the value and what is allowed."""


class NotFound(LoraStudioError):
    """No such adapter, recipe, method or base model."""


class SourceChanged(LoraStudioError):
    """A source of a recipe is not what it was when the recipe was written; says which."""


class ResultDiffers(LoraStudioError):
    """A composition that was made again is not the one its recipe tells of; says by how much."""


class NotAllowed(LoraStudioError):
    """The person who asks may not do this; says who may."""


class TooMany(LoraStudioError):
    """A quota or a rate limit is reached; says which, and when to come back."""


class StorageFull(LoraStudioError):
    """The disk or a quota is full; nothing was lost, nothing was half written."""


class WorkerFailed(LoraStudioError):
    """A worker process died, hung or answered nonsense while doing this job."""


class Cancelled(LoraStudioError):
    """The job was cancelled by the person who started it."""
