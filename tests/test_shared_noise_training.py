"""Noise that frames share in a training run and in the files that it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from latentshift import LatentShiftPipeline
from latentshift.models.adapters.video_adapter import Lora, add_lora, load_adapter, save_lora
from latentshift.training.run import run
from latentshift.training.stages.video import VideoStage
from tiny_runs import CPU, batch_of, tiny


def video(runs: Path, output: Path, *more: str) -> Any:
    return tiny("video", runs, f"output={output}", *more)


def test_a_run_writes_what_it_trained_with_and_is_resumed_with_that_alone(runs: Path, tmp_path: Path) -> None:
    run(video(runs, tmp_path, "steps=2", "noise_share=1.5"), quiet=True)
    assert LatentShiftPipeline.from_pretrained(tmp_path / "model").config.noise_share == 1.5
    with pytest.raises(ValueError, match=r"noise_share was 1\.5 and is now 2"):
        run(video(runs, tmp_path, "noise_share=2"), quiet=True)
    with pytest.raises(ValueError, match=r"noise_share was 1\.5 and is now not set"):
        run(video(runs, tmp_path), quiet=True)
    run(video(runs, tmp_path, "noise_share=1.5"), quiet=True)


def test_noise_share_defaults_to_the_bases_and_must_not_change_on_resume(runs: Path, tmp_path: Path) -> None:
    base, output = tmp_path / "base", tmp_path / "run"
    LatentShiftPipeline.from_pretrained(runs / "image" / "model", noise_share=1.0).save_pretrained(base)
    run(video(runs, output, f"model={base}", "steps=2"), quiet=True)
    assert LatentShiftPipeline.from_pretrained(output / "model").config.noise_share == 1
    index = base / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "noise_share": 2.0}))
    with pytest.raises(ValueError, match="began with another noise_share"):
        run(video(runs, output, f"model={base}"), quiet=True)


def test_the_draws_stay_and_validation_has_the_same_noise_as_training(runs: Path, tmp_path: Path) -> None:
    words = ("validation={every: 2, clips: 1, bands: 1}", "image_share=0.5")
    independent = VideoStage(video(runs, tmp_path / "one", *words), CPU)
    shared = VideoStage(video(runs, tmp_path / "two", *words, "noise_share=2"), CPU)
    for step in (1, 2):  # clips, and single frames
        ours, theirs = batch_of(shared, step), batch_of(independent, step)
        assert torch.equal(ours.noise, theirs.noise) and torch.equal(ours.timesteps, theirs.timesteps)
        assert torch.equal(ours.latents, theirs.latents)
        losses = [stage.objective(batch)["loss"] for stage, batch in ((shared, ours), (independent, theirs))]
        assert (ours.noise.shape[1] == 1) == torch.equal(*losses)
    assert {batch_of(shared, step).noise.shape[1] for step in (1, 2)} == {1, 4}
    before, after = independent.validate()["error"], shared.validate()["error"]
    assert before != pytest.approx(after, rel=1e-3)
    independent.objective.noise_share = 2.0
    assert independent.validate()["error"] == after


def test_a_base_that_clips_is_refused_before_the_first_step(runs: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    pipeline = LatentShiftPipeline.from_pretrained(runs / "image" / "model")
    pipeline.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config, clip_sample=True)
    pipeline.save_pretrained(base)
    with pytest.raises(ValueError, match=r"clips the predicted latents \(clip_sample\)"):
        run(video(runs, tmp_path / "run", f"model={base}", "noise_share=1"), quiet=True)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_an_adapter_brings_the_noise_it_was_trained_with(sd1_folder: Path, tmp_path: Path) -> None:
    file, old = tmp_path / "lora.safetensors", tmp_path / "old.safetensors"
    tuned = LatentShiftPipeline.from_pretrained(sd1_folder, noise_share=1.5)
    add_lora(tuned.unet, Lora(rank=2))
    save_lora(tuned, Lora(rank=2), file)
    with safe_open(file, framework="pt") as content:
        metadata = json.loads(content.metadata()["latentshift"])
    assert metadata["settings"].pop("noise_share") == 1.5
    save_file(load_file(file), old, metadata={"latentshift": json.dumps(metadata)})  # of before there was one
    for path, expected in ((file, 1.5), (old, 0.0)):
        pipeline = LatentShiftPipeline.from_pretrained(sd1_folder, noise_share=3.0)
        load_adapter(pipeline, path)
        assert pipeline.config.noise_share == expected
    clipping = LatentShiftPipeline.from_pretrained(sd1_folder)
    clipping.scheduler = DDPMScheduler.from_config(clipping.scheduler.config, clip_sample=True)
    weights = {name: value.clone() for name, value in clipping.unet.state_dict().items()}
    with pytest.raises(ValueError, match="clips the predicted latents"):
        load_adapter(clipping, file)
    assert clipping.config.noise_share == 0
    assert all(torch.equal(value, weights[name]) for name, value in clipping.unet.state_dict().items())
