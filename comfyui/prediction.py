"""What the U-Net of a MODEL predicts: the noise, the velocity or the clean latents."""

from __future__ import annotations

from typing import Any


def set_prediction(model: Any, prediction_type: str, zero_snr: bool | None = None) -> Any:
    """A clone of a MODEL that is sampled as its U-Net predicts.

    Args:
        model: with a schedule of discrete timesteps.
        prediction_type: in diffusers' words.
        zero_snr: whether nothing of the picture is left at the last timestep; None: as the MODEL has it.

    Raises:
        ValueError: for a prediction that ComfyUI does not know.
    """
    import comfy.model_sampling as sampling

    known = {"epsilon": sampling.EPS, "v_prediction": sampling.V_PREDICTION, "sample": sampling.X0}
    if prediction_type not in known:
        raise ValueError(f"ComfyUI does not know the prediction_type {prediction_type!r}")
    if zero_snr is None:
        zero_snr = getattr(model.get_model_object("model_sampling"), "zsnr", False)
    kind = type("Prediction", (sampling.ModelSamplingDiscrete, known[prediction_type]), {})
    clone = model.clone()
    clone.add_object_patch("model_sampling", kind(model.model.model_config, zsnr=zero_snr))
    return clone
