"""Which extractors there are: files, checksums, where they come from, licences, and what goes in and out.

Imports nothing heavy. The checksums are those that others published; none was made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Per = Literal["frame", "clip"]
Output = Literal["features", "logits", "probabilities", "embeddings"]
COMPARED: tuple[Output, ...] = ("features", "embeddings")  # with those of true videos


@dataclass(frozen=True)
class KnownFile:
    """One file of an extractor.

    Attributes:
        name: as it is published, and in the cache.
        sha256: 64 hexadecimal digits; None where nobody has published them.
        size: bytes; None where unknown.
        alternative: name of the same content in another format, for which no checksum is known.
    """

    name: str
    sha256: str | None = None
    size: int | None = None
    alternative: str | None = None


@dataclass(frozen=True)
class KnownExtractor:
    """What is known of one extractor without opening it.

    Attributes:
        name: on the command line and in reports.
        serves: the metrics that use it.
        files: the weights first; more than one file are a folder.
        source: where they come from.
        licence: as stated there, or that none is.
        per: what one row of its output describes.
        outputs: name of each output -> width; the first is the default.
        resize: the resize rule in words, for reports.
        frames: the number of frames that a clip must have; None: any from ``least_frames``.
        least_frames: the fewest frames of a clip.
        shipped: its files are in this package, under ``evaluation/extractors/shipped``, and need not be added.
        note: a sentence that a user should read; may be empty.
    """

    name: str
    serves: str
    files: tuple[KnownFile, ...]
    source: str
    licence: str
    per: Per
    outputs: Mapping[Output, int]
    resize: str
    frames: int | None = None
    least_frames: int = 1
    shipped: bool = False
    note: str = ""

    @property
    def weights(self) -> KnownFile:
        return self.files[0]


def _shipped(
    name: str,
    serves: str,
    files: tuple[KnownFile, ...],
    per: Per,
    outputs: Mapping[Output, int],
    frames: int | None = None,
) -> KnownExtractor:
    return KnownExtractor(
        name=name,
        serves=serves,
        files=files,
        source="this package",
        licence="Apache-2.0",
        per=per,
        outputs=outputs,
        resize="stretched to 64x64, bilinear with antialiasing",
        frames=frames,
        shipped=True,
        note="Trained on sprites alone by `latentshift evaluate train-extractors`; see the README beside the weights.",
    )


_SPRITES_FRAMES = (
    KnownFile(
        "sprites-frames.safetensors", "afe24913e05469c1299c5f601b8077756f83b9501b60e01c897e3eda6c8e54fb", 1_096_412
    ),
    KnownFile("sprites-frames.json", "15c0ac8ac99046c5003193796e83aca329c321d9f988cb80938c7804f24583b7", 321),
)
_SPRITES_CLIPS = (
    KnownFile(
        "sprites-clips.safetensors", "71a40f578c5ae7dff13e91f3cfb18fd1990710bd8952045bce2006b778b65f86", 1_639_232
    ),
    KnownFile("sprites-clips.json", "636aeec7ad3055a8a2f704d805007d1057fe59e64e2d956fdce3741d11565099", 485),
)
_SPRITES_TEXT = (
    KnownFile("sprites-text.safetensors", "c7d90657286181c3976d418f801784748df85223361b41f7f83fa145d6378e32", 42_944),
    KnownFile("sprites-text.json", "ba718515ddd1dad17ba96334c8adefd459ef03ef5440e231a5d0cc3014afd105", 532),
)

_KNOWN = (
    KnownExtractor(
        name="inception-2015",
        serves="FID, KID and IS of frames",
        files=(
            KnownFile(
                "weights-inception-2015-12-05-6726825d.pth",
                "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
                95_628_359,
            ),
        ),
        source="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
        "weights-inception-2015-12-05-6726825d.pth",
        licence="Apache-2.0 (converted from TensorFlow's)",
        per="frame",
        outputs={"features": 2048, "logits": 1008},
        resize="stretched to 299x299, bilinear as in TensorFlow 1: no antialiasing, no half-pixel centres",
        note="pytorch-fid's pt_inception-2015-12-05-6726825d.pth is the same file.",
    ),
    KnownExtractor(
        name="i3d",
        serves="FVD and KVD of clips",
        files=(
            KnownFile(
                "i3d_torchscript.pt", "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2", 51_235_320
            ),
        ),
        source="https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt",
        licence="none stated",
        per="clip",
        outputs={"features": 400},
        resize="stretched to 224x224 inside the TorchScript file (resize=True)",
        least_frames=10,
        note="The file of StyleGAN-V; i3d_pretrained_400.pt and i3d_rgb_imagenet.pt are others, with other results.",
    ),
    KnownExtractor(
        name="c3d",
        serves="IS of clips of UCF-101",
        files=(KnownFile("c3d_ucf101.pt"),),
        source="https://www.dropbox.com/s/jxpu7avzdc9n97q/c3d_ucf101.pt",
        licence="none stated",
        per="clip",
        outputs={"probabilities": 101},
        resize="stretched to 112x112 inside the TorchScript file",
        frames=16,
        note="The file of StyleGAN-V; no published checksum of it was found, and other files have the same name.",
    ),
    KnownExtractor(
        name="clip",
        serves="CLIPSIM, CMMD and consistency of frames",
        files=(
            KnownFile(
                "pytorch_model.bin",
                "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
                605_247_071,
                alternative="model.safetensors",
            ),
            KnownFile("config.json", "b575ef3c36f2a057fa19e221650105052d61cc9c1a972ec15019c6261ec98770", 4_186),
            KnownFile("vocab.json", "5047b556ce86ccaf6aa22b3ffccfc52d391ea4accdab9c2f2407da5b742d4363", 862_328),
            KnownFile("merges.txt", "f526393189112391ce6f9795d4695f704121ce452c3aad1f5335cc41337eba85", 524_657),
        ),
        source="hub id openai/clip-vit-base-patch32, revision 3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
        licence="MIT for OpenAI's code; the hub states none for the weights",
        per="frame",
        outputs={"embeddings": 512},
        resize="short side to 224, bicubic with antialiasing (Pillow), centre crop 224x224",
        note="ViT-B/32, the one of CLIPSIM in the papers; published CMMD is by ViT-L/14@336.",
    ),
    _shipped(
        "sprites-frames",
        "FID, KID and IS of frames of the sprites world",
        _SPRITES_FRAMES,
        "frame",
        {"features": 64, "probabilities": 256},
    ),
    _shipped(
        "sprites-clips",
        "FVD, KVD and IS of clips of the sprites world",
        _SPRITES_CLIPS,
        "clip",
        {"features": 32, "probabilities": 80},
        frames=16,
    ),
    _shipped(
        "sprites-text",
        "CLIPSIM, CMMD and consistency of frames of the sprites world",
        (*_SPRITES_TEXT, *_SPRITES_FRAMES),
        "frame",
        {"embeddings": 64},
    ),
)

EXTRACTORS: dict[str, KnownExtractor] = {each.name: each for each in _KNOWN}


def known_extractor(name: str) -> KnownExtractor:
    """The entry of this name.

    Raises:
        ValueError: if there is none.
    """
    if name not in EXTRACTORS:
        raise ValueError(f"there is no extractor {name!r}: choose from {', '.join(EXTRACTORS)}")
    return EXTRACTORS[name]
