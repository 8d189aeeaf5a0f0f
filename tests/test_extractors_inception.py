"""The Inception of 2015: its resizing in closed form, its network against torch-fidelity's, its files."""

from __future__ import annotations

import hashlib
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from latentshift.evaluation.extractors import cache
from latentshift.evaluation.extractors.add import add_extractor
from latentshift.evaluation.extractors.extractor import extractor_warnings
from latentshift.evaluation.extractors.inception_network import InceptionNetwork
from latentshift.evaluation.extractors.known import EXTRACTORS
from latentshift.evaluation.extractors.load import load_extractor
from latentshift.evaluation.extractors.preprocess import for_inception, resize_as_tensorflow_1

NAMES = "d84f693f2abd7fea61cb31c87d3b2f268bf707c1bae1db219afdad3363959cb0"
FEATURES = [0.0, 0.0, 1.58804, 1.18287, 0.0, 0.0]
LOGITS = [0.01005, -0.13379, 0.09076, 0.06541, -0.14004, 0.0401]


def sine_weights(network: InceptionNetwork) -> dict[str, Tensor]:
    """Weights that a formula makes, without the counters of batch norms, which the published file has not either."""
    state = {}
    names = sorted(name for name in network.state_dict() if not name.endswith("num_batches_tracked"))
    for number, name in enumerate(names):
        shape = network.get_parameter(name).shape if "running" not in name else network.get_buffer(name).shape
        wave = torch.sin(torch.arange(shape.numel(), dtype=torch.float64) * (1.7 + 0.013 * number) + number)
        if len(shape) > 1:
            wave *= math.sqrt(4 / shape[1:].numel())
        elif name.endswith(("bn.weight", "running_var")):
            wave = 1 + wave / 3
        state[name] = wave.reshape(shape).float()
    return state


def pictures() -> Tensor:
    """One video of two frames, 40 x 56, that a formula makes."""
    f, y, x, c = np.meshgrid(np.arange(2), np.arange(40), np.arange(56), np.arange(3), indexing="ij")
    return torch.from_numpy(np.uint8(127.5 + 127 * np.sin(0.3 * x + 0.2 * y * (1 + c) + 2 * f + c)))[None]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.device("meta"):
        network = InceptionNetwork()
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(sine_weights(network), path)
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(("size", "new_size"), [(2, 4), (4, 2), (5, 5), (64, 299), (300, 299), (1, 7)])
def test_a_ramp_is_resized_to_its_values_at_i_times_the_scale(size: int, new_size: int) -> None:
    """No half-pixel centres: pixel 0 stays where it is; no antialiasing: a pixel between two taken ones has no say."""
    ramp = torch.arange(size, dtype=torch.float32)
    expected = np.minimum(np.arange(new_size, dtype=np.float32) * np.float32(size / new_size), size - 1)
    across = resize_as_tensorflow_1(ramp.expand(1, 1, 3, size), 3, new_size)
    down = resize_as_tensorflow_1(ramp[:, None].expand(1, 1, size, 3), new_size, 3)
    assert np.allclose(across[0, 0, 1], expected, atol=1e-4) and np.allclose(down[0, 0, :, 1], expected, atol=1e-4)


def test_inception_reads_red_first_and_from_minus_one() -> None:
    frames = torch.tensor([0, 128, 255], dtype=torch.uint8).expand(1, 7, 9, 3)
    made = for_inception(frames)
    assert made.shape == (1, 3, 299, 299)
    assert [made[0, channel].unique().tolist() for channel in range(3)] == [[-1.0], [0.0], [127 / 128]]


def test_the_names_and_shapes_are_those_of_the_published_weights() -> None:
    """Pinned from torch-fidelity's class; 95,628,359 bytes are what they take, and the index of the file."""
    with torch.device("meta"):
        state = InceptionNetwork().state_dict()
    names = [f"{name} {tuple(each.shape)}" for name, each in sorted(state.items()) if "num_batches" not in name]
    assert hashlib.sha256("\n".join(names).encode()).hexdigest() == NAMES
    size = EXTRACTORS["inception-2015"].weights.size
    assert size is not None and 0 < size - 4 * sum(each.numel() for each in state.values()) < 100_000


def test_features_and_logits_are_those_of_torch_fidelity(weights: Path) -> None:
    """With weights and pictures of a formula; the numbers are what torch-fidelity 0.4's class gives for them."""
    add_extractor(weights, "inception-2015")
    videos = pictures()
    extractor = load_extractor("inception-2015")
    features = extractor(videos)
    assert features.shape == (1, 2, 2048) and features.dtype == np.float32
    assert np.allclose(features[0, 0, ::400], FEATURES, atol=2e-4)
    logits = load_extractor("inception-2015", output="logits")(videos)
    assert logits.shape == (1, 2, 1008) and np.allclose(logits[0, 1, ::200], LOGITS, atol=2e-4)
    assert not extractor.verified and "inception-2015 are not verified" in extractor_warnings(extractor)[0]


def test_an_output_that_is_not_there_is_refused(weights: Path) -> None:
    add_extractor(weights, "inception-2015")
    with pytest.raises(ValueError, match="gives features or logits, not embeddings"):
        load_extractor("inception-2015", output="embeddings")


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("touched"),)


def test_a_file_of_other_tensors_or_of_other_objects_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    for content, message in (
        ({"fc.weight": torch.zeros(2, 2)}, r"472 tensors differ, first .* which is nothing and should be \(32,\)"),
        ([torch.zeros(2)], "holds something else than a state dict"),
        ({"fc.weight": _Evil()}, "is no file of tensors that can be read"),
    ):
        torch.save(content, path)
        add_extractor(path, "inception-2015")
        with pytest.raises(ValueError, match=message):
            load_extractor("inception-2015")
    path.write_bytes(pickle.dumps(_Evil(), protocol=2))
    add_extractor(path, "inception-2015")
    with pytest.raises(ValueError, match="is no file of tensors that can be read"):
        load_extractor("inception-2015")
    assert not Path("touched").exists()
