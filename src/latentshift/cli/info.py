"""``latentshift info``: parameters and settings of a model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from latentshift.models.storage.model_paths import BUNDLED, DATA_SETTINGS, resolve_model
from latentshift.settings import ShiftConfig
from latentshift.user_input.error_text import printable


def info(
    model: str = typer.Argument(BUNDLED, help="The bundled model, a folder, or a hub id."),
    variant: str | None = typer.Option(
        None, "--variant", help="Variant of the weight files, e.g. fp16 for model.fp16.safetensors. Default: none."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show what a model is: parameters by component, family, frames, prediction type, a small vocabulary's words."""
    from latentshift.cli.preflight import check_model_files

    check_model_files(model, variant)
    from latentshift.cli.models import load_pipeline
    from latentshift.models.conditioning.text import vocabulary_words
    from latentshift.models.storage.families import family_of

    pipeline = load_pipeline(model, variant=variant)
    parts = {"unet": pipeline.unet, "autoencoder": pipeline.vae, "text_encoder": pipeline.text_encoders}
    counts = {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in parts.items()}
    temporal, shift = pipeline.temporal_parameters, pipeline.config.shift
    if pipeline.temporal is None:
        counts["unet"] -= temporal
    facts: dict[str, Any] = {
        "model": model,
        "family": family_of(pipeline.text_encoders.encoders, pipeline.scheduler.config.prediction_type),
        "parameters": {**counts, "temporal": temporal, "total": sum(counts.values()) + temporal},
        "num_frames": pipeline.config.num_frames,
        "fps": pipeline.config.fps,
        "size": pipeline.sample_size,
        "guidance_scale": pipeline.config.guidance_scale,
        "sampler": type(pipeline.scheduler).__name__,
        "num_inference_steps": pipeline.config.num_inference_steps,
        "method": pipeline.method,
        "shift": None if shift is None else asdict(ShiftConfig.from_dict(shift)),
        "noise_share": pipeline.config.noise_share,
        "prediction_type": pipeline.scheduler.config.prediction_type,
        "vocabulary": vocabulary_words(pipeline.tokenizer),
    }
    data_settings = Path(resolve_model(model), DATA_SETTINGS)
    if data_settings.is_file():
        facts["data_settings_sha256"] = hashlib.sha256(data_settings.read_bytes()).hexdigest()
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    width = max(map(len, facts)) + 2
    for key, value in facts.items():
        if key == "parameters":
            print("parameters")
            for name, count in value.items():
                print(f"  {name:14}{count:>15,}")
        elif key == "vocabulary":
            print(f"{key:{width}}{printable(' '.join(value), 20_000) if value else 'not listed'}")
        else:
            print(f"{key:{width}}{printable(value)}")
