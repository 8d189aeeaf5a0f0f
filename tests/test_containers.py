"""The frame on screen, whatever the container and the codec: clips whose pictures tell their number.

Every clip is written by the ffmpeg program, and decoded by it from the beginning; what is read out of the same file at
its start, in its middle and at its end has to be what the program shows at those moments.
"""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest

from latentshift.data.footage.container import open_video
from latentshift.data.footage.decode import probe, read_clip
from latentshift.data.footage.framing import Framing
from latentshift.data.footage.video_file import each_frame
from latentshift.data.footage.window import Window
from latentshift.data.manifest import Row
from latentshift.data.rejected import Rejected
from latentshift.video import read_video

SIDE, FPS, FRAMES = 64, 20, 120
SLACK = 1.5e-3  # seconds: a container's clock, and what the program prints of it, are rounded
H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "veryfast", "-bf", "3")
HEVC = ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=error:keyint=20:min-keyint=20")
MPEG2 = ("-c:v", "mpeg2video", "-q:v", "3", "-bf", "2", "-r", "25")
MPEG4 = ("-c:v", "mpeg4", "-q:v", "3", "-g", "20")
VP8 = ("-c:v", "libvpx", "-g", "20", "-pix_fmt", "yuv420p", "-deadline", "realtime", "-lag-in-frames", "10")
VP9 = ("-c:v", "libvpx-vp9", "-g", "20", "-pix_fmt", "yuv420p", "-deadline", "realtime", "-cpu-used", "8")
THEORA = ("-c:v", "libtheora", "-q:v", "8", "-pix_fmt", "yuv420p")
OPEN = ("-g", "20", "-x264-params", "open-gop=1:scenecut=0")
VARYING = ("-vf", "setpts='N*N/60/20/TB'", "-fps_mode", "vfr", "-enc_time_base", "1/1000")
UNEVEN = ("-vf", "setpts='(N+0.4*sin(N))/20/TB'", "-fps_mode", "vfr", "-enc_time_base", "1/1000")
MANY, ONE = ("-g", "20"), ("-g", "999")
CASES: dict[str, tuple[str, ...]] = {
    "h264.mp4": (*H264, *MANY),
    "one-keyframe.mp4": (*H264, *ONE),
    "open.mp4": (*H264, *OPEN),
    "late.mp4": (*H264, *MANY, "-output_ts_offset", "9"),
    "varying.mp4": (*H264, *MANY, *VARYING),
    "fragmented.mp4": (*H264, *MANY, "-movflags", "frag_keyframe+empty_moov"),
    "dash.mp4": (*H264, *MANY, "-movflags", "frag_keyframe+empty_moov+default_base_moof+dash"),
    "hevc.mp4": HEVC,
    "av1.mp4": ("-c:v", "libsvtav1", "-g", "20", "-pix_fmt", "yuv420p", "-preset", "10"),
    "h264.m4v": (*H264, *MANY),
    "h264.3gp": (*H264, *MANY),
    "prores.mov": ("-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"),
    "open.mov": (*H264, *OPEN),
    "mjpeg.mov": ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
    "h264.mkv": (*H264, *MANY),
    "open.mkv": (*H264, *OPEN),
    "refresh.mkv": (*H264, "-bf", "0", "-x264-params", "intra-refresh=1:keyint=20"),
    "uneven.mkv": (*H264, *MANY, *UNEVEN),
    "late.mkv": (*H264, *MANY, "-output_ts_offset", "9"),
    "late-one-keyframe.mkv": (*H264, *ONE, "-output_ts_offset", "9"),
    "late-hevc.mkv": (*HEVC, "-output_ts_offset", "9"),
    "mpeg4-b.mkv": (*MPEG4, "-bf", "2"),
    "vp8.webm": VP8,
    "vp9.webm": VP9,
    "late-vp9.webm": (*VP9, "-output_ts_offset", "9"),
    "av1.webm": ("-c:v", "libaom-av1", "-g", "20", "-pix_fmt", "yuv420p", "-usage", "realtime", "-cpu-used", "8"),
    "mjpeg.avi": ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
    "mpeg4.avi": MPEG4,
    "mpeg4-b.avi": (*MPEG4, "-bf", "2"),
    "xvid.avi": ("-c:v", "libxvid", "-q:v", "3", "-g", "20", "-bf", "2"),
    "h264.avi": (*H264, *MANY, "-bf", "0"),
    "late.avi": (*H264, *MANY, "-bf", "0", "-output_ts_offset", "3"),
    "h264-b.avi": (*H264, *MANY),
    "h264-b-open.avi": (*H264, *OPEN),
    "h264-b-varying.avi": (*H264, *MANY, *VARYING),
    "h264-b-one-keyframe.avi": (*H264, *ONE),
    "mpeg1.mpg": ("-c:v", "mpeg1video", "-q:v", "3", "-bf", "2", "-r", "25", "-g", "15"),
    "mpeg2.mpg": (*MPEG2, "-g", "15"),
    "late.mpg": (*MPEG2, "-g", "15", "-output_ts_offset", "37"),
    "mpeg2.vob": (*MPEG2, "-g", "15"),
    "one-keyframe.vob": (*MPEG2, "-g", "600"),
    "mpeg2.m2v": (*MPEG2, "-g", "15"),
    "mpeg2.mxf": (*MPEG2, "-g", "15"),
    "mpeg2.ts": (*MPEG2, "-g", "15"),
    "h264.ts": (*H264, *MANY),
    "one-keyframe.ts": (*H264, *ONE),
    "late.ts": (*H264, *MANY, "-output_ts_offset", "37"),
    "late-one-keyframe.ts": (*H264, *ONE, "-output_ts_offset", "37"),
    "open.ts": (*H264, *OPEN),
    "refresh.ts": (*H264, "-bf", "0", "-x264-params", "intra-refresh=1:keyint=20"),
    "varying.ts": (*H264, *MANY, *VARYING),
    "hevc.ts": HEVC,
    "h264.m2ts": (*H264, *MANY),
    "h264.flv": (*H264, *MANY),
    "sorenson.flv": ("-c:v", "flv", "-q:v", "3", "-g", "20"),
    "late.flv": (*H264, *MANY, "-output_ts_offset", "9"),
    "wmv2.wmv": ("-c:v", "wmv2", "-q:v", "3", "-g", "20"),
    "late.wmv": ("-c:v", "wmv2", "-q:v", "3", "-g", "20", "-output_ts_offset", "9"),
    "h264-b.asf": (*H264, *MANY),
    "varying.wmv": ("-c:v", "wmv2", "-q:v", "3", "-g", "20", *VARYING),
    "rv20.rm": ("-c:v", "rv20", "-q:v", "3", "-g", "20"),
    "theora.ogv": (*THEORA, *MANY),
    "one-keyframe.ogv": (*THEORA, *ONE),
    "late.ogv": (*THEORA, *MANY, "-output_ts_offset", "9"),
    "vp8.ogg": VP8,
    "h264.nut": (*H264, *MANY),
    "late.nut": (*H264, *MANY, "-output_ts_offset", "9"),
    "vp9.ivf": VP9,
    "raw.y4m": ("-pix_fmt", "yuv420p"),
    "a.gif": (),
    "a.apng": (),
}
EDITED = {  # a clip, and what the program makes of it in a second go
    "edit-list.mp4": ("h264.mp4", ("-ss", "1.3"), ("-c", "copy")),
    "edit-list-one-keyframe.mp4": ("one-keyframe.mp4", ("-ss", "1.3"), ("-c", "copy")),
    "with-sound.ts": ("h264.mp4", ("-f", "lavfi", "-i", "sine=d=6"), ("-c:v", "copy", "-c:a", "aac")),
    "with-sound.ogv": ("theora.ogv", ("-f", "lavfi", "-i", "sine=d=6"), ("-c:v", "copy", "-c:a", "libvorbis")),
    "with-sound.mkv": ("late.mkv", ("-f", "lavfi", "-i", "sine=d=6"), ("-c:v", "copy", "-c:a", "aac")),
}


def pictures(numbers: range = range(FRAMES)) -> bytes:
    """Gray frames (F, SIDE, SIDE), each with the eight bits of its number as black and white fields."""
    bits = np.array([[number >> bit & 1 for bit in range(8)] for number in numbers], dtype=np.uint8) * 255
    fields = bits.reshape(-1, 2, 4).repeat(SIDE // 2, axis=1).repeat(SIDE // 4, axis=2)
    return fields.tobytes()


def number_of(picture: np.ndarray) -> int:
    """Which number a frame (SIDE, SIDE) or (SIDE, SIDE, 3) shows."""
    gray = picture if picture.ndim == 2 else picture.mean(axis=2)
    fields = gray.reshape(2, SIDE // 2, 4, SIDE // 4)[:, 8:-8, :, 4:-4].mean(axis=(1, 3))
    return int(((fields.ravel() > 127) << np.arange(8)).sum())


def ffmpeg(*words: str | Path, frames: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-y", *map(str, words)], input=frames, capture_output=True, check=True
    )


@cache
def encoders() -> str:
    return ffmpeg("-v", "error", "-encoders").stdout.decode()


def written(path: Path, words: tuple[str, ...], numbers: range = range(FRAMES)) -> Path:
    """The clip of these numbers, as the program writes it with these options."""
    if "-c:v" in words and f" {words[words.index('-c:v') + 1]} " not in encoders():
        pytest.skip("this build of the ffmpeg program lacks the encoder")
    source = ("-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{SIDE}x{SIDE}", "-r", str(FPS), "-i", "-")
    ffmpeg("-v", "error", *source, *words, "-threads", "1", path, frames=pictures(numbers))
    return path


def made(folder: Path, name: str) -> Path:
    if name in CASES:
        return written(folder / name, CASES[name])
    source, inputs, words = EDITED[name]
    first = written(folder / source, CASES[source])
    before = inputs if inputs[:1] == ("-ss",) else ()
    ffmpeg("-v", "error", *before, "-i", first, *(() if before else inputs), *words, folder / name)
    return folder / name


def by_program(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """All frames' times, in seconds from the first, and their numbers, decoded by the program from the beginning."""
    words = ("-map", "0:v:0", "-vf", "showinfo", "-fps_mode", "passthrough", "-pix_fmt", "gray", "-f", "rawvideo", "-")
    run = ffmpeg("-i", path, "-threads", "1", *words)
    times = np.array([float(each) for each in re.findall(r"pts_time:(-?[\d.]+)", run.stderr.decode())])
    frames = np.frombuffer(run.stdout, dtype=np.uint8).reshape(-1, SIDE, SIDE)
    assert len(times) == len(frames) and np.all(np.diff(times) > 0)
    return times - times[0], np.array([number_of(frame) for frame in frames])


def on_screen(times: np.ndarray, numbers: np.ndarray, moment: float) -> set[int]:
    """The number on screen at a moment: two, where a frame gives way to the next at just that moment."""
    first, last = (int(np.searchsorted(times, moment + slack, side="right")) - 1 for slack in (-SLACK, SLACK))
    return set(numbers[max(first, 0) : last + 1].tolist())


def row(path: Path, **settings: object) -> Row:
    return Row(str(path), ("a clip",), "test", **settings)


def read_numbers(path: Path, start: float, num_frames: int, seconds: float) -> tuple[list[int], np.ndarray]:
    window = Window(num_frames, seconds, "first")
    clip = read_clip(row(path, start=start), window, Framing(SIDE, SIDE), np.random.default_rng(0))
    return [number_of(frame) for frame in clip.frames], clip.times


def agree(path: Path) -> None:
    """That windows at the start, in the middle and at the end show what the program shows."""
    times, numbers = by_program(path)
    ends = float(times[-1])
    assert ends - 1e-3 <= probe(row(path)).seconds <= ends + 0.5
    for start, num_frames, seconds in (
        (0.0, 6, 1.5),
        (0.43 * ends, 6, 1.5),
        (ends - 1.51, 6, 1.5),
        (0.77 * ends, 1, 1),
    ):
        read, when = read_numbers(path, start, num_frames, seconds)
        moments = start + np.arange(num_frames) * seconds / num_frames
        for number, time, moment in zip(read, when, moments, strict=True):
            assert number in on_screen(times, numbers, moment), (start, read)
            assert number in on_screen(times, numbers, time), (
                start,
                read,
                when,
            )  # its time is its own


@pytest.mark.parametrize("name", [*CASES, *EDITED])
def test_frames_are_those_that_are_on_screen(name: str, tmp_path: Path) -> None:
    agree(made(tmp_path, name))


@pytest.mark.parametrize("name", ["h264.mp4", "late.mkv", "h264-b.avi", "h264.ts", "late-one-keyframe.ts", "mpeg2.mpg"])
def test_scenes_are_found_over_every_frame(name: str, tmp_path: Path) -> None:
    path = made(tmp_path, name)
    times, numbers = by_program(path)
    read = [(when, number_of(picture)) for when, _, picture in each_frame(row(path, start=1.0, end=3.0), SIDE)]
    inside = (times > 1.0 - 1e-3) & (times < 3.0 - 1e-3)
    assert [number for _, number in read] == numbers[inside].tolist()
    assert np.allclose([when for when, _ in read], times[inside], atol=SLACK)


def test_a_stream_that_begins_between_keyframes_begins_where_it_can_be_decoded(tmp_path: Path) -> None:
    packets = np.frombuffer(written(tmp_path / "a.ts", CASES["h264.ts"]).read_bytes(), np.uint8).reshape(-1, 188)
    (tmp_path / "b.ts").write_bytes(packets[len(packets) // 3 :].tobytes())
    assert read_numbers(tmp_path / "b.ts", 0.0, 3, 0.3)[0][0] > 20
    agree(tmp_path / "b.ts")


def test_a_member_of_a_larger_file_is_read_from_its_own_beginning(tmp_path: Path) -> None:
    for name in ("late-one-keyframe.ts", "h264-b.avi"):
        content = made(tmp_path, name).read_bytes()
        (tmp_path / "all.bin").write_bytes(b"?" * 777 + content + b"?" * 99)
        inside = Row(str(tmp_path / "all.bin"), ("",), "test", offset=777, size=len(content), member=name, start=2.52)
        clip = read_clip(inside, Window(4, 2.0, "first"), Framing(SIDE, SIDE), np.random.default_rng(0))
        assert [number_of(frame) for frame in clip.frames] == [50, 60, 70, 80]


@pytest.mark.parametrize("kind", ["ts", "mpg", "ogv"])
def test_joined_recordings_are_never_half_in_silence(kind: str, tmp_path: Path) -> None:
    """The refusal says so, and what the docs advise gives all of it."""
    words = {"ts": CASES["h264.ts"], "mpg": (*MPEG2, "-g", "15", "-r", str(FPS)), "ogv": CASES["theora.ogv"]}[kind]
    words = tuple("20" if word == "25" else word for word in words) if kind == "mpg" else words
    halves = [written(tmp_path / f"{k}.{kind}", words, range(60 * k, 60 * k + 60)) for k in (0, 1)]
    joined = tmp_path / f"joined.{kind}"
    joined.write_bytes(b"".join(half.read_bytes() for half in halves))
    with pytest.raises(Rejected, match=r"its times jump back after (2\.9|3\.0)\d s") as refused:
        read_numbers(joined, 0.0, 6, 1.5)
    assert refused.value.kind == "no-times"
    assert [number_of(frame) for frame in read_video(joined)[0]] == list(range(FRAMES))
    ffmpeg("-v", "error", "-i", joined, tmp_path / "whole.mp4")
    read, _ = read_numbers(tmp_path / "whole.mp4", 2.52, 4, 2.0)
    assert np.abs(np.array(read) - [50, 60, 70, 80]).max() <= 3  # the program leaves a few frames' room between them


def test_presentation_times_that_are_decoding_times_are_not_believed(tmp_path: Path) -> None:
    """So they are where a file without presentation times was copied: even the program's times go back and forth."""
    ffmpeg("-v", "error", "-i", made(tmp_path, "h264-b.avi"), "-c", "copy", tmp_path / "copied.mp4")
    for name in ("h264-b.avi", "copied.mp4"):
        for start in (0.0, 2.52, 4.48):
            expected = (np.floor((start + np.arange(6) / 4) * FPS + 1e-6)).astype(int).tolist()
            read, when = read_numbers(tmp_path / name, start, 6, 1.5)
            assert read == expected and np.allclose(when * FPS, expected)
        assert read_numbers(tmp_path / name, 0.16, 1, 1.0)[0] == [3]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_raw_stream_is_refused_by_its_true_name(codec: str, tmp_path: Path) -> None:
    raw = written(tmp_path / f"a.{codec}", (*H264, *MANY) if codec == "h264" else HEVC)
    with pytest.raises(Rejected, match="do not say when they are shown") as refused:
        read_numbers(raw, 0.0, 6, 1.5)
    assert refused.value.kind == "no-times"
    assert [number_of(frame) for frame in read_video(raw)[0]] == list(range(FRAMES))
    ffmpeg("-v", "error", "-r", str(FPS), "-i", raw, tmp_path / "timed.mp4")  # what the docs advise
    agree(tmp_path / "timed.mp4")


def test_a_picture_that_stands_still_in_theora(tmp_path: Path) -> None:
    """Frames that repeat the one before are empty packets there."""
    path = written(tmp_path / "a.ogv", (*THEORA, "-vf", "loop=loop=40:size=1:start=30", *MANY))
    agree(path)
    read, when = read_numbers(path, 1.72, 4, 1.0)
    assert len(set(read)) == 1 and np.allclose(when, 1.7 + np.arange(4) / 4)
    still = written(tmp_path / "b.ogv", (*THEORA, "-vf", "loop=loop=40:size=1:start=119", *MANY))
    assert probe(row(still)).seconds == pytest.approx(8.0)
    assert len(set(read_numbers(still, 6.5, 4, 1.5)[0])) == 1
    shown = np.array([number_of(frame) for frame in read_video(path)[0]])
    assert np.array_equal(np.unique(shown), np.arange(FRAMES)) and np.all(np.diff(shown) >= 0)


@pytest.mark.parametrize("name", ["h264.mp4", "late.mkv", "vp9.webm", "h264.flv", "mpeg4.avi"])
def test_an_index_leads_past_what_is_not_wanted(name: str, tmp_path: Path) -> None:
    """What lies between the first frame and the keyframe before the window is never decoded: here it is zeros."""
    path = made(tmp_path, name)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for position, size in places[10:70]:
        content[position + 12 : position + size] = bytes(max(size - 12, 0))
    path.write_bytes(content)
    assert read_numbers(path, 4.52, 4, 1.0)[0] == [90, 95, 100, 105]
    with pytest.raises((Rejected, AssertionError)):
        assert read_numbers(path, 1.02, 4, 1.0)[0] == [20, 25, 30, 35]


def test_recordings_joined_in_a_file_with_an_index(tmp_path: Path) -> None:
    """The index is the first one's alone."""
    halves = [written(tmp_path / f"{k}.mkv", CASES["late.mkv"], range(60 * k, 60 * k + 60)) for k in (0, 1)]
    joined = tmp_path / "joined.mkv"
    joined.write_bytes(b"".join(half.read_bytes() for half in halves))
    with pytest.raises(Rejected, match=r"its times jump back after (2\.9|3\.0)\d s") as refused:
        read_numbers(joined, 0.0, 6, 1.5)
    assert refused.value.kind == "no-times"


def test_a_gap_between_joined_recordings_is_no_still_picture(tmp_path: Path) -> None:
    halves = [written(tmp_path / f"{name}.ts", CASES[f"{name}.ts"]) for name in ("h264", "late")]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(half.read_bytes() for half in halves))
    with pytest.raises(Rejected, match=r"its times jump ahead after (5\.9|6\.0)\d s") as refused:
        read_numbers(joined, 15.0, 6, 1.5)
    assert refused.value.kind == "no-times"


@pytest.mark.parametrize("name", ["h264.mkv", "open.mkv", "vp9.webm", "h264.flv", "h264.nut"])
def test_a_file_that_was_written_to_a_pipe(name: str, tmp_path: Path) -> None:
    """It has no index."""
    kind = {"mkv": "matroska"}.get(name.split(".")[1], name.split(".")[1])
    piped = ffmpeg("-v", "error", "-i", made(tmp_path, name), "-c", "copy", "-f", kind, "-").stdout
    (tmp_path / f"piped.{name}").write_bytes(piped)
    agree(tmp_path / f"piped.{name}")


def test_a_raw_stream_without_a_rate_is_given_none(tmp_path: Path) -> None:
    raw = written(tmp_path / "a.mjpeg", ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-f", "mjpeg"))
    with pytest.raises(Rejected, match="do not say when they are shown"):
        read_numbers(raw, 0.0, 6, 1.5)


def test_a_fault_of_ours_is_no_damaged_file(tmp_path: Path) -> None:
    path = made(tmp_path, "a.gif")
    with pytest.raises(TypeError, match="ours"), open_video(str(path)):
        raise TypeError("ours")
    with pytest.raises(Rejected, match="it can't be read"), open_video(str(path)) as (container, stream):
        container.seek(2**62, stream=stream, any_frame=True, backward=False)
