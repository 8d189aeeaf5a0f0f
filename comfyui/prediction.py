"""What the U-Net of a MODEL predicts: the noise, the velocity or the clean latents."""

from __future__ import annotations

from typing import Any


def set_prediction(model: Any, prediction_type: str, zero_snr: bool | None = None) -> None:
    """Have a MODEL, a node's own, sampled as its U-Net predicts.

    Args:
        model: with a schedule of discrete timesteps.
        prediction_type: in diffusers' words.
        zero_snr: whether nothing of the picture is left at the last timestep; None: as the MODEL has it.

    Raises:
        ValueError: for a prediction that ComfyUI does not know.
    """
    import comfy.model_sampling as sampling

    known = _kinds()
    if prediction_type not in known:
        raise ValueError(f"ComfyUI does not know the prediction_type {prediction_type!r}")
    if zero_snr is None:
        zero_snr = getattr(model.get_model_object("model_sampling"), "zsnr", False)
    kind = type("Prediction", (sampling.ModelSamplingDiscrete, known[prediction_type]), {})
    model.add_object_patch("model_sampling", kind(model.model.model_config, zsnr=zero_snr))


def prediction_of(model: Any) -> str | None:
    """What a MODEL is sampled by, in diffusers' words; None if that has none for it."""
    own = model.get_model_object("model_sampling")
    return next((name for name, kind in _kinds().items() if isinstance(own, kind)), None)


def _kinds() -> dict[str, type]:
    """ComfyUI's classes, of which the last is a base of the others."""
    import comfy.model_sampling as sampling

    return {"v_prediction": sampling.V_PREDICTION, "sample": sampling.X0, "epsilon": sampling.EPS}
