"""Reading clips, beside the least that anyone could do for the same frames or the same bytes.

Footage: H.264 that is made here, clips of 16 frames over 2 s at 256², beside opening the file with PyAV, seeking,
decoding the same frames and turning the wanted ones to RGB of that size. Encoded clips: batches out of shards, beside
reading as many bytes of the same files. Both on one core, in turns, in processor time.
"""

from __future__ import annotations

import itertools
import multiprocessing
import resource
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np

from latentshift.benchmarks.report import Result
from latentshift.benchmarks.timing import comparison, interleaved_timing
from latentshift.caption_embedding import CaptionEmbedding
from latentshift.data.footage.decode import read_clip
from latentshift.data.footage.framing import Framing
from latentshift.data.footage.window import Window
from latentshift.data.latents.encode import DecodeTask, FrameEncoder, TextEncoder, Views, make_shard
from latentshift.data.latents.latent_dataset import LatentDataset
from latentshift.data.latents.resolve import resolve_source
from latentshift.data.latents.spec import LatentSpec, num_shards, shard_path
from latentshift.data.loader import BatchSpec, Loader
from latentshift.data.manifest import Row
from latentshift.data.rejected import Rejected
from latentshift.data.sample_order import rng_for
from latentshift.data.sources import SpritesSource
from latentshift.video.pixels import accurate_interpolation

SIZES = ((256, 256), (854, 480), (1280, 720), (1920, 1080))
_SECONDS, _FPS, _KEYFRAMES = 12, 30, 60
_LATENT = (16, 8, 32, 32)  # F, 2C, h, w of the paper's model
_TEXT = (77, 1280)
_BATCH, _BATCHES_A_ROUND = 8, 200


def bench_data(quick: bool = False) -> Iterator[Result]:
    """Footage at several sizes, encoded clips, and the memory over many samples."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        yield from _footage(folder, SIZES[:1] if quick else SIZES, rounds=2 if quick else 20)
        yield _encoded(folder, clips=64 if quick else 256, rounds=1 if quick else 8)
        yield from _memory_over(folder, samples=2_000 if quick else 100_000)


def _footage(folder: Path, sizes: Sequence[tuple[int, int]], rounds: int) -> Iterator[Result]:
    """Decode clips of H.264."""
    window, framing = Window(16, 2.0), Framing(256, 256)
    for width, height in sizes:
        path = folder / f"{width}x{height}.mp4"
        _write_video(path, width, height)
        row = Row(str(path), ("a clip",), "bench")

        def ours(number: int, row: Row = row) -> None:
            read_clip(row, window, framing, rng_for(0, number))

        def peer(number: int, path: Path = path, wide: int = round(256 * width / height)) -> None:
            _bare_decode(path, _times_of(number, window, framing), wide, 256)

        rate, bare = interleaved_timing([ours, peer], rounds)
        yield comparison(f"H.264 {width}x{height}, decoded", "clips/s", rate, bare)


def _encoded(folder: Path, clips: int, rounds: int) -> Result:
    """Read batches out of shards of the full-size model's latents and text."""
    shards = folder / "shards"
    rng = np.random.default_rng(0)
    text = CaptionEmbedding(rng.standard_normal(_TEXT, dtype=np.float32))
    _make_shards(shards, clips, 64, lambda _: rng.standard_normal(_LATENT, dtype=np.float32), lambda _: text)
    opened = LatentDataset(shards)
    loader = Loader([opened], lambda step: BatchSpec(_BATCH, 16, (step - 1) * _BATCH), seed=0)
    size = np.dtype(np.float16).itemsize * int(np.prod(_LATENT))
    text_size = np.dtype(np.float16).itemsize * int(np.prod(_TEXT))
    with closing(loader.batches()) as batches:
        for _ in range(clips // _BATCH):  # every clip once: its bytes are checked the first time
            next(batches)
    files = [shard_path(shards, number).open("rb", buffering=0) for number in range(-(-clips // 64))]
    places = np.random.default_rng(1)

    def ours(_: int) -> None:
        with closing(loader.batches()) as batches:
            for _ in range(_BATCHES_A_ROUND):
                next(batches)

    def peer(_: int) -> None:
        for _ in range(_BATCHES_A_ROUND):
            batch = []
            for _ in range(_BATCH):
                number, within = divmod(int(places.integers(clips)), 64)
                for offset, length in ((within * size, size), (64 * size + within % 60 * text_size, text_size)):
                    files[number].seek(4096 + offset)
                    batch.append(files[number].read(length))

    rate, bare = interleaved_timing([ours, peer], rounds)
    for file in files:
        file.close()
    clips_a_round = _BATCHES_A_ROUND * _BATCH
    return comparison("encoded, 256x256, with text", "clips/s", rate * clips_a_round, bare * clips_a_round)


def _memory_over(folder: Path, samples: int) -> Iterator[Result]:
    """The memory in use after a tenth of so many samples and after all of them, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        early, late = pool.apply(_memory_here, (folder, samples))
    for count, memory in ((samples // 10, early), (samples, late)):
        yield {"what": "memory, out of 200 shards", "samples": count, "mib": memory}


def _memory_here(folder: Path, samples: int) -> tuple[float, float]:
    shards, clips = folder / "small", 200  # more shards than are held open
    _make_shards(shards, clips, 1, lambda _: np.zeros((16, 16, 8, 8), dtype=np.float32), None)
    loader = Loader([LatentDataset(shards)], lambda step: BatchSpec(_BATCH, 16, (step - 1) * _BATCH), seed=0)
    early = 0.0
    for number, _ in enumerate(itertools.islice(loader.batches(), samples // _BATCH)):
        if number == samples // _BATCH // 10:
            early = _memory()
    return early, _memory()


def _make_shards(
    folder: Path, clips: int, clips_per_shard: int, frames: FrameEncoder, text: TextEncoder | None
) -> None:
    """Shards of clips that nobody decoded, of whatever the encoders give."""
    plan = LatentSpec(
        "",
        "bench",
        "float32",
        None if text is None else "bench",
        Window(),
        Framing(32, 32),
        clips_per_shard=clips_per_shard,
    )
    manifest = resolve_source(folder, SpritesSource(path=Path(), clips=clips), plan)
    blank = Views(np.zeros((1, 16, 8, 8, 3), dtype=np.uint8))

    def views(tasks: Iterator[DecodeTask]) -> Iterator[tuple[DecodeTask, Views | Rejected]]:
        return ((task, blank) for task in tasks)

    spec = LatentSpec.read(folder)
    for number in range(num_shards(spec, manifest)):
        for _ in make_shard(folder, spec, manifest, number, views, frames, text):
            pass


def _times_of(number: int, window: Window, framing: Framing) -> np.ndarray:
    """When the frames are shown that our clip of this number takes."""
    rng = rng_for(0, number)
    framing.draw(rng)
    return window.moments(0.0, float(_SECONDS), rng)


def _memory() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _bare_decode(path: Path, times: np.ndarray, width: int, height: int) -> list[np.ndarray]:
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        container.seek(int(times[0] / stream.time_base), stream=stream)
        wanted, taken, shown = list(times), [], None
        for frame in container.decode(stream):
            while shown is not None and wanted and wanted[0] < frame.time:
                taken.append(
                    shown.to_ndarray(
                        format="rgb24", width=width, height=height, interpolation=accurate_interpolation(), threads=1
                    )
                )
                wanted.pop(0)
            if not wanted:
                break
            shown = frame
    return taken


def _write_video(path: Path, width: int, height: int) -> None:
    """Textured ground that drifts, with noise on it: neither the easiest nor the hardest of footage."""
    import av

    rng = np.random.default_rng(0)
    ground = rng.integers(40, 216, size=(height // 8 + 64, width // 8 + 64, 3), dtype=np.uint8)
    ground = ground.repeat(8, axis=0).repeat(8, axis=1)
    with av.open(str(path), "w") as container:
        options = {"crf": "23", "g": str(_KEYFRAMES), "preset": "veryfast"}
        stream = container.add_stream("libx264", rate=_FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, _FPS)
        for number in range(_SECONDS * _FPS):
            shifted = ground[number : number + height, 2 * number % 256 : 2 * number % 256 + width]
            noise = rng.integers(0, 8, size=(height, width, 1), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(shifted + noise), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
