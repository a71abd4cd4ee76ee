"""Frames survive any cut of the stream, and nonsense is refused before it costs anything."""

from __future__ import annotations

import io

import pytest

from lora_studio.frames import MAX_FRAME, BadFrame, FrameBuffer, encode, read_frame

FRAMES = [{"type": "ready"}, {"text": "été 🎈", "n": [1, None, 2.5]}, {"long": "y" * 5000}]


@pytest.mark.parametrize("step", [1, 3, 4, 1000, 1 << 20])
def test_frames_come_out_as_they_went_in_however_they_are_cut(step):
    stream = b"".join(encode(frame) for frame in FRAMES)
    buffer = FrameBuffer()
    found = [f for i in range(0, len(stream), step) for f in buffer.feed(stream[i : i + step])]
    assert found == FRAMES


def test_a_blocking_stream_is_read_to_its_end():
    stream = io.BytesIO(b"".join(encode(frame) for frame in FRAMES) + b"\x00\x00\x00\x09half")
    assert [read_frame(stream) for _ in FRAMES] == FRAMES
    assert read_frame(stream) is None


@pytest.mark.parametrize(
    "data",
    [
        (MAX_FRAME + 1).to_bytes(4, "big"),
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02[]",
        b"\x00\x00\x00\x01{",
        b"\x00\x00\x00\x02\xff\xfe",
        (200_000).to_bytes(4, "big") + b"[" * 200_000,
    ],
)
def test_nonsense_is_refused(data):
    with pytest.raises(BadFrame):
        FrameBuffer().feed(data)
    with pytest.raises(BadFrame):
        read_frame(io.BytesIO(data))


def test_what_cannot_be_sent_is_refused():
    for value in (float("nan"), object(), "x" * (MAX_FRAME + 1)):
        with pytest.raises(BadFrame):
            encode({"value": value})


def test_lone_surrogates_do_not_stop_a_frame():
    assert FrameBuffer().feed(encode({"text": "a\ud800b"})) == [{"text": "a?b"}]
