"""I3D and C3D from TorchScript files: what goes in, what must come out, and that no unknown file is opened."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latentshift.evaluation.extractors import cache
from latentshift.evaluation.extractors.add import add_extractor
from latentshift.evaluation.extractors.extractor import extractor_warnings
from latentshift.evaluation.extractors.known import EXTRACTORS, KnownFile
from latentshift.evaluation.extractors.load import load_extractor
from latentshift.evaluation.extractors.preprocess import for_torchscript
from latentshift.evaluation.metrics.inception_score import to_probabilities
from tiny_extractors import TinyC3D, TinyI3D, save_script


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def videos(count: int = 3, frames: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, frames, 6, 8, 3), dtype=torch.uint8, generator=generator)


def test_a_clip_becomes_channels_first_and_keeps_its_levels() -> None:
    (video,) = videos(1)
    made = for_torchscript(video)
    assert made.dtype == torch.uint8 and made.shape == (1, 3, 16, 6, 8)
    assert made[0, 2, 5, 1, 7] == video[5, 1, 7, 2]


def test_i3d_is_asked_to_rescale_to_resize_and_for_features(tmp_path: Path) -> None:
    add_extractor(save_script(TinyI3D(), tmp_path / "i3d.pt"), "i3d")
    extractor, clips = load_extractor("i3d"), videos(2, 12)
    rows = extractor(clips)
    assert rows.shape == (2, 1, 400) and rows.dtype == np.float32
    for row, clip in zip(rows[:, 0], clips.double(), strict=True):
        assert row[:9].tolist() == [1, 1, 1, 1, 1, 3, 12, 6, 8]  # every argument true, uint8, then the shape
        for channel in range(3):
            values = clip[..., channel]
            expected = [values[0, 0, 0], values[-1, -1, -1], values.mean()]
            assert np.allclose(row[9 + 3 * channel :][:3], expected, rtol=1e-6)


def test_the_rows_of_a_video_do_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    add_extractor(save_script(TinyC3D(), tmp_path / "c3d.pt"), "c3d")
    extractor, clips = load_extractor("c3d"), videos()
    together = extractor(clips)
    apart = np.concatenate([extractor(clips[index : index + 1]) for index in range(3)])
    assert np.array_equal(together, apart) and np.array_equal(together, extractor(clips))


def test_c3d_gives_probabilities_that_metrics_take_as_such(tmp_path: Path) -> None:
    network = TinyC3D()
    add_extractor(save_script(network, tmp_path / "c3d.pt"), "c3d")
    extractor = load_extractor("c3d")
    rows = extractor(videos())[:, 0]
    with torch.inference_mode():
        expected = torch.cat([network(for_torchscript(each)) for each in videos()])
    assert extractor.output == "probabilities" and np.allclose(rows, expected, atol=1e-6)
    assert np.allclose(to_probabilities(rows, "probabilities"), expected, atol=1e-6)  # no second softmax


def test_a_c3d_that_gives_logits_is_refused(tmp_path: Path) -> None:
    add_extractor(save_script(TinyC3D(logits=True), tmp_path / "c3d.pt"), "c3d")
    with pytest.raises(ValueError, match=r"gives no probabilities .* other files have the same name"):
        load_extractor("c3d")(videos())


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.full([1, 101], float("nan"))


class Maps(nn.Module):
    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        return torch.zeros(1, 400, 2, 2)


@pytest.mark.parametrize(
    ("name", "network", "message"),
    [
        ("i3d", Maps(), r"gave \(1, 400, 2, 2\) and not \(1, 400\): its file is another one"),
        ("i3d", TinyC3D(), "can't read a clip of the shape .* it is another one"),
        ("c3d", Nothing(), "gave numbers that are not finite"),
    ],
)
def test_a_file_that_gives_something_else_is_refused(
    tmp_path: Path, name: str, network: nn.Module, message: str
) -> None:
    add_extractor(save_script(network, tmp_path / "file.pt"), name)
    with pytest.raises(ValueError, match=message):
        load_extractor(name)(videos())


def test_clips_of_another_shape_are_refused(tmp_path: Path) -> None:
    add_extractor(save_script(TinyI3D(), tmp_path / "i3d.pt"), "i3d")
    add_extractor(save_script(TinyC3D(), tmp_path / "c3d.pt"), "c3d")
    i3d, c3d = load_extractor("i3d"), load_extractor("c3d")
    with pytest.raises(ValueError, match="needs clips of 10 frames or more, not 9"):
        i3d(videos(1, 9))
    with pytest.raises(ValueError, match="reads clips of 16 frames, not 17"):
        c3d(videos(1, 17))
    for wrong in (videos().float(), videos()[0], videos().movedim(-1, 2), videos()[:0]):
        with pytest.raises(ValueError, match=r"videos are uint8 \(B, F, H, W, 3\)"):
            c3d(wrong)


def test_a_file_is_verified_by_its_checksum_and_not_opened_after_a_change(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_script(TinyI3D(), tmp_path / "i3d.pt")
    file = KnownFile("i3d_torchscript.pt", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setitem(EXTRACTORS, "i3d", replace(EXTRACTORS["i3d"], files=(file,)))
    add_extractor(path)
    extractor = load_extractor("i3d")
    assert extractor.verified and extractor.sha256 == file.sha256 and not extractor_warnings(extractor)
    save_script(TinyC3D(), folder / "i3d" / "i3d_torchscript.pt")
    with pytest.raises(ValueError, match="was changed since it was added"):
        load_extractor("i3d")


def test_what_is_no_torchscript_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "page.pt"
    path.write_text("<html>not found</html>")
    add_extractor(path, "c3d")
    with pytest.raises(ValueError, match="the file of the extractor c3d is no TorchScript file"):
        load_extractor("c3d")
    with pytest.raises(ValueError, match=r"the extractor i3d .* is missing"):
        load_extractor("i3d")
