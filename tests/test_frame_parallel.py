"""One video over several processes is the video of one, and sends the bytes that the formula says."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import torch.distributed as dist
from peft import LoraConfig
from PIL import Image

from latentshift import LatentShiftPipeline
from latentshift.diffusion.known_frames import KnownFrames
from latentshift.diffusion.sampler_names import SAMPLERS
from latentshift.diffusion.samplers import make_sampler
from latentshift.diffusion.sampling import sample
from latentshift.diffusion.shared_noise import mix_noise
from latentshift.frame_parallel.agreement import digest_of, lora_strengths, weight_sample
from latentshift.frame_parallel.split import count_parts, split_frames
from latentshift.frame_parallel.traffic import edge_bytes, guidance_bytes
from latentshift.frame_parallel.whole_clip_noise import WholeClipNoise
from latentshift.models.conditioning.prompt_schedule import PromptSchedule
from latentshift.process_group import RankError
from latentshift.video import as_clip, read_metadata, read_video
from launch import Processes, command_line, wait_until
from tiny_models import ONE_LEVEL, tiny_unet
from waiting import wait_for

PROCESSES = 4
FRAMES = 7  # which no number of processes here divides
VIDEO = torch.randn(FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(2))

Case = dict[str, Any]
CASES: dict[str, Case] = {
    "two": {"ranks": 2, "prompts": 2},
    "three": {"ranks": 3, "shift": {"padding": "replicate", "place": "conv2"}, "call": {"negative_prompt": "black"}},
    "guidance": {"ranks": 2, "guidance_parallel": True},
    "guidance-and-ring-of-two": {"ranks": 4, "guidance_parallel": True, "shift": {"padding": "circular"}},
    "ring-of-four": {"ranks": 4, "shift": {"padding": "circular", "place": "block", "blocks": "decoder"}},
    "single-frames": {
        "ranks": 4,
        "shift": {"direction": "past_only", "blocks": "encoder"},
        "call": {"num_frames": 4, "guidance_scale": 1.0},
    },
    "ring-past-only": {
        "ranks": 3,
        "shift": {"direction": "past_only", "padding": "circular", "fold": 2},
        "call": {"frame_chunk": 1},
    },
    "whole-chunks": {"ranks": 2, "shift": {"direction": "first_from_future"}, "call": {"frame_chunk": FRAMES}},
    "independent": {"ranks": 3, "shift": None},
    "shared-noise": {"ranks": 3, "noise_share": 2.0, "sampler": "euler-a", "shift": {"padding": "replicate"}},
    "keyframes": {"ranks": 2, "keyframes": {0: 1.0, 5: 0.5}},
    "video": {"ranks": 2, "noise_share": 1.0, "keyframes": {6: 1.0}, "call": {"video": VIDEO, "strength": 0.5}},
    "changing-prompt": {"ranks": 2, "call": {"negative_prompt": {1: "black", 5: "red"}}},
}
OPTIONS = ("--steps", "2", "--seed", "1", "--dtype", "float32", "--device", "cpu")
OUTPUTS = ("pt", "np", "pil")


def set_up(pipeline: LatentShiftPipeline, case: Case) -> None:
    pipeline.set_progress_bar_config(disable=True)
    pipeline.set_shift(case.get("shift", {}))
    pipeline.set_noise_share(case.get("noise_share", 0.0))
    pipeline.scheduler = make_sampler(case.get("sampler", "ddpm"), pipeline.scheduler)


def call(pipeline: LatentShiftPipeline, case: Case, **options: Any) -> Any:
    prompts = ["red star", "star"][: case.get("prompts", 1)]
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
    defaults = {"num_frames": FRAMES, "num_inference_steps": 2, "guidance_scale": 3.0, "output_type": "latent"}
    arguments = {**defaults, **case.get("call", {}), **options}
    if strengths := case.get("keyframes"):
        pictures = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(1))
        arguments |= {"keyframes": dict.fromkeys(strengths, pictures), "keyframe_strength": strengths}
    return pipeline(prompts, generator=generators, **arguments).frames


def work(model: Path, folder: Path) -> None:
    for words in (("--frames", "3"), ("--frames", "5", "-o", str(folder / "video.webp"))):
        with suppress(SystemExit):
            command_line("generate", "red star", "--model", str(model), *OPTIONS, *words)
    make_all(model, folder)


def make_all(model: Path, folder: Path) -> None:
    """Each case on its processes; the first one saves what came out, and each what it has sent."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    groups = {ranks: dist.new_group(list(range(ranks))) for ranks in (2, 3, 4)}
    others = {ranks: dist.new_group(list(range(ranks, PROCESSES))) for ranks in (2, 3)}
    pipeline = LatentShiftPipeline.from_pretrained(model)
    for name, case in CASES.items():
        group = (groups if rank < case["ranks"] else others)[case["ranks"]]
        takes_part = rank < case["ranks"]
        pipeline.enable_frame_parallel(
            group, guidance_parallel=takes_part and case.get("guidance_parallel", False), timeout=120
        )
        if not takes_part:  # it could make a video with the others that don't
            continue
        set_up(pipeline, case)
        frames = call(pipeline, case)
        assert (frames is None) == (rank > 0)
        if rank == 0:
            torch.save(frames, folder / f"{name}.pt")
        (folder / f"{name}-{rank}.json").write_text(json.dumps(asdict(pipeline.frame_ranks.traffic)))
        if name == "three":
            for output in OUTPUTS:
                frames = call(pipeline, case, output_type=output)
                if rank == 0:
                    torch.save(frames, folder / f"{output}.pt")
            check_refusals(pipeline, folder, rank)
        pipeline.disable_frame_parallel()
    dist.barrier()
    dist.destroy_process_group()


@torch.no_grad()
def check_refusals(pipeline: LatentShiftPipeline, folder: Path, rank: int) -> None:
    """Each is said by all processes, and the next call works."""
    refusals: dict[str, tuple[Case, dict[str, Any]]] = {
        "frames": ({}, {"num_frames": 2}),
        "rescale": ({}, {"guidance_rescale": 0.5}),
        "prompt": ({}, {"negative_prompt": f"black {rank}"}),
        "steps": ({}, {"num_inference_steps": 2 + (rank == 1)}),
        "interval": ({}, {"guidance_interval": (0, 900 - rank)}),
        "attention": ({}, {"cross_attention_kwargs": {"scale": 1 - rank / 4}}),
        "known": ({"keyframes": {3: 1.0, 4: 1.0}}, {"guidance_interval": (0, 600)}),
        "noise": ({}, {"latents": torch.full((1, FRAMES, 4, 8, 8), float(rank == 2))}),
    }
    messages = {}
    for name, (case, options) in refusals.items():
        try:
            call(pipeline, case, **options)
        except ValueError as error:
            messages[name] = str(error)
    if rank == 1:
        decoder = next(pipeline.vae.decoder.parameters())
        decoder.mul_(2)
    try:
        call(pipeline, {})
    except ValueError as error:
        messages["weights"] = str(error)
    if rank == 1:
        decoder.div_(2)
    pipeline.set_method("latent-vdm")
    try:
        call(pipeline, {})
    except ValueError as error:
        messages["temporal attention"] = str(error)
    pipeline.set_method("latent-shift")
    (folder / f"refusals-{rank}.json").write_text(json.dumps(messages))


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    processes = Processes(work, model, folder, processes=PROCESSES)
    assert set(processes.ended(300)) == {0}, processes.last_words()
    (folder / "printed").write_text(processes.printed())
    (folder / "errors").write_text(processes.errors())
    return folder


@pytest.fixture(scope="module")
def pipeline(model: Path) -> LatentShiftPipeline:
    return LatentShiftPipeline.from_pretrained(model)


def differs(made: torch.Tensor, expected: torch.Tensor) -> float:
    assert expected.std() > 0.1
    return float((made - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", CASES)
def test_a_video_over_processes_is_the_video_and_sends_what_the_formula_says(
    name: str, made: Path, pipeline: LatentShiftPipeline
) -> None:
    case = CASES[name]
    set_up(pipeline, case)
    expected = call(pipeline, case)
    assert differs(torch.load(made / f"{name}.pt"), expected) <= 1e-5
    sent = [json.loads((made / f"{name}-{rank}.json").read_text()) for rank in range(case["ranks"])]
    totals = {kind: sum(each[kind] for each in sent) for kind in sent[0]}
    arguments = {"num_frames": FRAMES, "guidance_scale": 3.0, **case.get("call", {})}
    videos, passes, frames = case.get("prompts", 1), pipeline.num_timesteps, arguments["num_frames"]
    guided, over_ranks = arguments["guidance_scale"] != 1.0, case.get("guidance_parallel", False)
    parts = count_parts(case["ranks"], guidance_parallel=over_ranks)
    edges = edge_bytes(pipeline.unet, 8, 8, ranks=parts, videos=videos * (1 + guided), passes=passes, bytes_per_value=4)
    assert (edges > 0) == (parts > 1 and case.get("shift", {}) is not None)
    values = 4 * 8 * 8
    predicted = guidance_bytes(frames * values, videos=videos, passes=passes, bytes_per_value=4) if over_ranks else 0
    others = frames - split_frames(frames, parts)[0].stop
    assert totals == {"edges": edges, "guidance": predicted, "gathered": videos * others * values * 4}


@torch.no_grad()
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("noise_share", "held", "most"), [(0, False, 1e-6), (2, False, 1e-5), (1, True, 1e-4)])
def test_each_part_of_a_clip_is_sampled_as_among_all(
    sampler: str, noise_share: float, held: bool, most: float, pipeline: LatentShiftPipeline
) -> None:
    """With a denoiser that works on each frame: noise is drawn for the whole clip, and mixed over it."""
    latents, text = torch.randn(2, FRAMES, 4, 2, 2), torch.randn(4, 2, 2)

    def run(frames: slice | None) -> torch.Tensor:
        scheduler = make_sampler(sampler, pipeline.scheduler)
        scheduler.set_timesteps(4)
        start = latents * scheduler.init_noise_sigma
        generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        options: dict[str, Any] = {"eta": 1.0}
        if held:
            own = frames or slice(None)
            options["known"] = KnownFrames(latents[:, own] / 2, [1.0, 0, 0, 0.5, 0, 0, 0][own])
        if frames is None:
            options["noise_share"] = noise_share
        else:
            start = mix_noise(start, noise_share)[:, frames]
            scheduler = WholeClipNoise(scheduler, frames, FRAMES, noise_share)
        return sample(lambda noisy, timestep: torch.tanh(noisy + text), scheduler, start, generators, **options)

    parts = [run(frames) for frames in split_frames(FRAMES, 3)]
    assert differs(torch.cat(parts, dim=1), run(None)) <= most


def test_outputs_are_gathered_in_every_form(made: Path, pipeline: LatentShiftPipeline) -> None:
    set_up(pipeline, CASES["three"])
    for output in OUTPUTS:
        expected = call(pipeline, CASES["three"], output_type=output)
        frames = torch.load(made / f"{output}.pt", weights_only=False)
        if output == "pil":
            frames, expected = (np.stack([as_clip(clip) for clip in each]).astype(int) for each in (frames, expected))
            assert np.ptp(expected) > 0 and np.abs(frames - expected).max() <= 1  # a rounding at the edge of a level
        else:
            assert type(frames) is type(expected)
            np.testing.assert_allclose(np.asarray(frames), np.asarray(expected), rtol=0, atol=1e-5)


def test_the_command_writes_and_says_everything_once(cli, made: Path, model: Path) -> None:
    assert cli("generate", "red star", "--model", model, *OPTIONS, "--frames", 5, "-o", "whole.webp")[0] == 0
    whole, split = (read_video(path)[0].astype(int) for path in (Path("whole.webp"), made / "video.webp"))
    assert np.ptp(whole) > 0 and np.abs(split - whole).max() <= 1
    assert read_metadata(made / "video.webp")["processes"] == PROCESSES
    assert (made / "printed").read_text() == f"{made}/video.webp  (seed 1)\n"
    refused = "error: a video of 3 frames can't be split over 4 processes: ask for more frames, or start fewer\n"
    assert (made / "errors").read_text().count(refused) == 1


def differing(what: str) -> str:
    return (
        f"the processes of one video differ in {what}: call each with the same arguments, and with a generator of the "
        "same seed"
    )


REFUSALS = {
    "frames": "a video of 2 frames can't be split over 3 processes: ask for more frames, or start fewer",
    "rescale": "a video can't be split over processes with guidance_rescale, which looks at all frames at once; set it "
    "to 0",
    "prompt": differing("prompts"),
    "steps": differing("sampler"),
    "interval": differing("guidance"),
    "attention": differing("attention"),
    "noise": differing("noise"),
    "weights": differing("weights"),
    "known": "guidance_interval can't be used where all frames of a process are keyframes, as those of part 2 of 3 "
    "are: start fewer processes, or leave it out",
    "temporal attention": "a video can't be split over processes with Latent-VDM: its temporal attention looks at all "
    "frames at once",
}


def test_what_can_not_be_split_is_refused_by_all_processes(made: Path) -> None:
    for rank in range(3):
        assert json.loads((made / f"refusals-{rank}.json").read_text()) == REFUSALS


# Values that are the same in two processes, and other ones.
ALIKE: dict[str, Callable[[int], Any]] = {
    "picture": lambda number: Image.new("RGB", (4, 4), (number, 0, 0)),
    "large array": lambda number: np.bincount([2000 + number], minlength=4000),
    "embedding": lambda number: torch.full((2, 3), float(number)),
    "changing prompt": lambda number: PromptSchedule((0, 3 + number), ("star", "heart")),
    "mapping": lambda number: {"scale": [0.5, number], "of": None},
}


@pytest.mark.parametrize("kind", ALIKE)
def test_values_are_compared_and_not_objects(kind: str) -> None:
    assert digest_of(ALIKE[kind](0)) == digest_of(ALIKE[kind](0)) != digest_of(ALIKE[kind](1))


def test_other_weights_have_another_sample_in_whatever_order_they_lie() -> None:
    unet = tiny_unet(**ONE_LEVEL)
    sample = weight_sample(unet)
    assert torch.equal(weight_sample(unet.to(memory_format=torch.channels_last)), sample)
    assert not torch.equal(weight_sample(unet.requires_grad_(False).apply(halve_convolutions)), sample)
    assert len(weight_sample(torch.nn.SiLU())) == 0


def halve_convolutions(module: torch.nn.Module) -> None:
    if isinstance(module, torch.nn.Conv2d):
        module.weight.div_(2)


def test_strengths_of_loras_are_compared() -> None:
    unet = tiny_unet(**ONE_LEVEL)
    plain = digest_of(lora_strengths(unet))
    unet.add_adapter(LoraConfig(target_modules=["to_q"], init_lora_weights=False))
    full = digest_of(lora_strengths(unet))
    unet.set_adapters(["default"], [0.5])
    half = digest_of(lora_strengths(unet))
    unet.disable_adapters()
    assert len({plain, full, half, digest_of(lora_strengths(unet))}) == 4


@pytest.mark.parametrize("frames", [4, 5, 16, 1000])
def test_parts_of_the_frames_are_consecutive_and_even(frames: int) -> None:
    for parts in (1, 2, 3, 4):
        split = split_frames(frames, parts)
        assert [frame for part in split for frame in range(frames)[part]] == list(range(frames))
        sizes = [part.stop - part.start for part in split]
        assert max(sizes) - min(sizes) <= 1


def test_guidance_takes_half_of_the_processes() -> None:
    assert count_parts(6, guidance_parallel=True) == 3 and count_parts(3, guidance_parallel=False) == 3
    with pytest.raises(ValueError, match="guidance over processes needs an even number of them, and not 3"):
        count_parts(3, guidance_parallel=True)


WORLD = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
MISTAKES: dict[str, tuple[dict[str, str], str]] = {
    "": ({"WORLD_SIZE": "2"}, "the environment has WORLD_SIZE=2 and no RANK: start several processes with torchrun"),
    "--steps 2": ({"WORLD_SIZE": "two"}, "the environment has WORLD_SIZE=two, which is no whole number"),
    "--frames 1": (WORLD, "a video of 1 frame can't be split over 2 processes: ask for more frames, or start fewer"),
    "--extend 1": (WORLD, "--extend is for a single process, and here are 2"),
    "--device cuda:1": (WORLD, "2 processes can't share --device cuda:1: choose cuda, which gives each its own"),
    "--guidance-parallel --guidance 1": (WORLD, "--guidance-parallel needs a guidance scale other than 1"),
    "--guidance-parallel": (WORLD | {"WORLD_SIZE": "3"}, "guidance over processes needs an even number of them, and"),
    "--rank-timeout nan": (WORLD, "--rank-timeout must be above 0 and at most 2,592,000 seconds (30 days), not nan"),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_are_refused_before_the_processes_meet(words: str, cli, monkeypatch: pytest.MonkeyPatch) -> None:
    environment, message = MISTAKES[words]
    for state in ("_current", "_before_meeting"):  # and as they were for the tests that follow
        monkeypatch.setattr(f"latentshift.cli.ranks.{state}", None)
    monkeypatch.setattr("latentshift.progress._quiet", False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code, printed, errors = cli("generate", "star", *words.split())
    assert code == 1 and not printed and errors.startswith(f"error: {message}") and errors.count("\n") == 1
    monkeypatch.setenv("RANK", "1")  # says nothing, as the first one says it
    if "RANK" in environment:
        assert cli("generate", "star", *words.split()) == (1, "", "")


def test_frames_are_split_where_torch_distributed_is_at_work(pipeline: LatentShiftPipeline) -> None:
    with pytest.raises(ValueError, match=r"torch\.distributed is not initialised: start the processes with torchrun"):
        pipeline.enable_frame_parallel()
    assert pipeline.frame_ranks is None


def lose_a_process(model: Path, folder: Path) -> None:
    """Two videos on two processes each; the second process of one is killed, and that of the other hangs."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    groups = [dist.new_group([first, first + 1]) for first in (0, 2)]
    pipeline = LatentShiftPipeline.from_pretrained(model)
    pipeline.enable_frame_parallel(groups[rank // 2], timeout=120 if rank < 2 else 3)

    def on_step(pipeline: LatentShiftPipeline, step: int, timestep: object, tensors: object) -> dict[str, object]:
        if step == 1 and rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == 1 and rank == 3:
            time.sleep(600)
        return {}

    try:
        call(pipeline, {}, num_inference_steps=5, callback_on_step_end=on_step)
    except RankError as error:
        (folder / f"{rank}").write_text(str(error))
    os._exit(1)


def test_a_process_that_ends_or_hangs_ends_the_others(model: Path, tmp_path: Path) -> None:
    with Processes(lose_a_process, model, tmp_path, processes=PROCESSES) as processes:
        ended = [processes.processes[rank] for rank in (0, 2)]  # once they are, what they write is whole
        wait_for(lambda: not any(each.is_alive() for each in ended), processes.last_words)
    killed, hung = ((tmp_path / name).read_text() for name in "02")
    assert killed == "rank 1 of 2 has ended too early: its own message says why, or it was killed"
    assert hung == "rank 1 of 2 did not answer within 3 seconds (--rank-timeout, in Python timeout, sets the limit)"


def torchrun(*words: str) -> None:
    from torch.distributed.run import main

    main(list(words))


@pytest.mark.slow
def test_torchrun_ends_where_a_process_is_killed(model: Path, tmp_path: Path) -> None:
    """Its processes are fresh interpreters, as users launch them."""
    launch = ["--standalone", "--nproc-per-node=3", "-m", "latentshift", "generate", "star", "red star"]
    words = (*launch, "--model", str(model), *OPTIONS, "--steps", "300", "--frames", "7", "-o", str(tmp_path / "clips"))
    with Processes(torchrun, *words) as processes:
        wait_until(processes, (tmp_path / "clips" / "star-1.mp4").exists)  # and the other video is being made
        children = psutil.Process(processes.pid).children()
        next(each for each in children if each.environ()["RANK"] == "1").kill()
        (code,) = processes.ended()
    assert code != 0 and [path.name for path in (tmp_path / "clips").iterdir()] == ["star-1.mp4"]
    errors = [line for line in processes.errors().splitlines() if line.startswith("error: ")]
    noticed = ("has ended too early: its own message says why, or it was killed", "its video is not finished")
    assert len(errors) == 1 and errors[0].endswith(noticed), errors
