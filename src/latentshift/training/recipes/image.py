"""The recipe of stage (b): text-to-image on single frames."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from latentshift.training.recipes.diffusion import DiffusionSettings
from latentshift.training.recipes.settings import MayChange, TextModel, UNetModel


class ImageRecipe(DiffusionSettings):
    """Stage (b): text-to-image, U-Net and text encoder together, on latents of single frames."""

    stage: Literal["image"]
    autoencoder: MayChange[Path] = Field(description="folder of the trained autoencoder: the run of stage (a)")
    unet: UNetModel = UNetModel()
    text: TextModel = TextModel()
    tokenizer: str | None = Field(
        None,
        min_length=1,
        description="of a new text encoder: sprites (the words of sprites captions), captions (the words of the "
        "data's captions), or a folder or hub id with a pretrained one; none: sprites, or that of text_encoder",
    )
    text_encoder: MayChange[str | None] = Field(
        None,
        min_length=1,
        description="a folder or hub id with a pretrained CLIP text encoder, BERT or LDM-BERT and its tokenizer, or an "
        "image pipeline's folder; none: a new one",
    )
    train_text_encoder: bool = Field(True, description="false: a pretrained one is frozen")
    zero_terminal_snr: bool = Field(
        False, description="rescale the noise schedule so that its last timestep is noise alone (the paper's is not)"
    )

    @property
    def bases(self) -> tuple[str | Path, ...]:
        return (self.autoencoder, *([] if self.text_encoder is None else [self.text_encoder]))

    @property
    def text_models(self) -> tuple[str, ...]:
        named = self.text_encoder or self.tokenizer
        return () if named in (None, "sprites", "captions") else (str(named),)

    @property
    def has_sprites_vocabulary(self) -> bool:
        """Whether the tokenizer knows the words of the sprites world, and no others."""
        return self.text_encoder is None and self.tokenizer in (None, "sprites")

    @model_validator(mode="after")
    def _check_text_encoder(self) -> ImageRecipe:
        if self.text_encoder is not None and self.tokenizer is not None:
            raise ValueError("text_encoder brings its own tokenizer, and tokenizer is set; leave one of them out")
        if self.text_encoder is None and not self.train_text_encoder:
            raise ValueError("train_text_encoder is false, and a new text encoder knows nothing; set text_encoder")
        return self

    @model_validator(mode="after")
    def _check_zero_terminal_snr(self) -> ImageRecipe:
        if self.zero_terminal_snr and self.prediction_type != "v_prediction":
            raise ValueError(
                "zero_terminal_snr leaves nothing to learn at the last timestep by the prediction of noise; set "
                "prediction_type to v_prediction"
            )
        return self
