"""The node pack in a real ComfyUI: its own U-Net and sampler against ours, with the same weights and noise."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from comfyui_process import CHECKOUT, PACK, WHY_NOT, import_pack
from latentshift import LatentShiftPipeline, ShiftConfig, install
from latentshift.diffusion.noise import paper_scheduler
from latentshift.diffusion.sampling import sample
from latentshift.models.adapters.video_adapter import Lora, add_lora, load_adapter, save_delta, save_lora
from latentshift.models.storage.model_config import ADAPTER_KEY
from tiny_models import TEXT_WIDTH, TOKENS, tiny_bert, tiny_tokenizer, tiny_unet, tiny_vae

pytestmark = pytest.mark.skipif(CHECKOUT is None, reason=WHY_NOT)

FRAMES = 5


@pytest.fixture(scope="module")
def pack() -> Any:
    return import_pack()


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    # 32 channels are the fewest that ComfyUI's GroupNorm is made with.
    return tiny_unet(block_out_channels=(32, 64), norm_num_groups=8)


@pytest.fixture(scope="module")
def model(pack: Any, unet: UNet2DConditionModel) -> Any:
    from latentshift_nodes.ldm_model import unet_model

    return unet_model(unet, paper_scheduler().config, {"scaling_factor": 0.5, "latent_channels": 4})


def shifted(model: Any, **settings: Any) -> Any:
    from latentshift_nodes.shift_patch import apply_temporal_shift

    clone = model.clone() if hasattr(model, "clone") else model
    apply_temporal_shift(clone, ShiftConfig(**settings))
    return clone


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def call(model: Any, x: Tensor, text: Tensor, conditions: int = 2, **options: Any) -> Tensor:
    """ComfyUI's U-Net as its sampler calls it: a batch for each condition, side by side."""
    options = {"cond_or_uncond": [1, 0][:conditions], "wrappers": model.wrappers, **options}
    return model.model.diffusion_model(x, torch.full((len(x),), 500), context=text, transformer_options=options)


def share_noise(model: Any, noise_share: float) -> Any:
    from latentshift_nodes import noise_patch

    clone = model.clone()
    noise_patch.share_noise(clone, noise_share)
    return clone


@torch.no_grad()
def ours(unet: UNet2DConditionModel, x: Tensor, text: Tensor, config: ShiftConfig) -> Tensor:
    return install(copy.deepcopy(unet), config)(x, 500, text, num_frames=FRAMES).sample


@pytest.fixture(scope="module")
def inputs() -> tuple[Tensor, Tensor]:
    return noise(2 * FRAMES, 4, 8, 8), noise(2 * FRAMES, TOKENS, TEXT_WIDTH, seed=1)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"padding": "replicate"},
        {"padding": "circular"},
        {"fold": 8},
        {"direction": "first_from_future"},
        {"direction": "past_only", "place": "conv2"},
        {"place": "block", "blocks": "encoder"},
        {"place": "conv2", "blocks": "decoder", "fold": 2},
    ],
    ids=str,
)
def test_its_unet_with_the_shift_is_ours(
    model: Any, unet: UNet2DConditionModel, inputs: tuple[Tensor, Tensor], settings: dict[str, Any]
) -> None:
    expected = ours(unet, *inputs, ShiftConfig(**settings))
    result = call(shifted(model, **settings), *inputs)
    assert (result - expected).abs().max() < 1e-5
    assert (call(model, *inputs) - expected).abs().max() > 1e-2  # as far as the shift goes


def test_frames_come_from_the_conditions_of_a_call(model: Any, inputs: tuple[Tensor, Tensor]) -> None:
    """One condition alone, as where memory is short, is one video; so is each of two."""
    x, text = inputs
    both = call(shifted(model), x, text)
    alone = call(shifted(model), x[:FRAMES], text[:FRAMES], conditions=1)
    assert (both[:FRAMES] - alone).abs().max() < 1e-5
    with pytest.raises(ValueError, match="a batch of 5 pictures does not divide into 2 conditions"):
        call(shifted(model), x[:FRAMES], text[:FRAMES])
    with pytest.raises(ValueError, match="without `cond_or_uncond`"):
        call(shifted(model), x, text, cond_or_uncond=[])


def test_another_model_of_the_same_weights_is_not_changed(model: Any, inputs: tuple[Tensor, Tensor]) -> None:
    before, names = call(model, *inputs), list(model.model.state_dict())
    video = shifted(model)
    call(video, *inputs)
    with pytest.raises(RuntimeError):
        call(video, inputs[0], inputs[1][:, :, :3])  # text of another width
    assert torch.equal(call(model, *inputs), before)
    assert list(model.model.state_dict()) == names
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.model.modules())


def test_a_shift_replaces_the_one_before(model: Any, inputs: tuple[Tensor, Tensor]) -> None:
    from latentshift_nodes.shift_patch import shift_of

    once = shifted(shifted(model, padding="circular"), fold=4)
    assert shift_of(once) == ShiftConfig(fold=4) and shift_of(model) is None
    assert torch.equal(call(once, *inputs), call(shifted(model, fold=4), *inputs))


def test_refusals(model: Any, inputs: tuple[Tensor, Tensor]) -> None:
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    with pytest.raises(ValueError, match="a block of 32 channels is too narrow for fold 33"):
        shifted(model, fold=33)
    other = SimpleNamespace(model=SimpleNamespace(diffusion_model=torch.nn.Linear(1, 1)))
    with pytest.raises(ValueError, match="this MODEL is a Linear, and the temporal shift is for image U-Nets"):
        shifted(other)
    settings = {**model.model.model_config.unet_config, "use_temporal_resblock": True}
    other.model.diffusion_model = UNetModel(
        **settings, operations=comfy.ops.disable_weight_init, video_kernel_size=[3, 1, 1], merge_strategy="learned"
    )
    with pytest.raises(ValueError, match="a video model already"):
        shifted(other)


@torch.no_grad()
def sampled(model: Any, text: Tensor, start: Tensor, sampler: str = "euler", steps: int = 5, **options: Any) -> Tensor:
    """Latents that ComfyUI's own sampler makes, in the U-Net's scale."""
    import comfy.sample

    conditions = ([[each, {}]] for each in (text[:1], text[1:2]))
    latents = comfy.sample.sample(
        model, start, steps, 2.0, sampler, "simple", *conditions, torch.zeros_like(start), disable_pbar=True, **options
    )
    return latents * model.model.latent_format.scale_factor


def test_its_sampler_makes_what_ours_makes(
    model: Any, unet: UNet2DConditionModel, inputs: tuple[Tensor, Tensor]
) -> None:
    """Euler's method over the same timesteps, also with noise that frames share."""
    start, text = inputs[0][:FRAMES], inputs[1]
    for share in (0.0, 1.5):
        result = sampled(share_noise(shifted(model), share), text, start)
        assert (result - euler(unet, text, start, share)).abs().max() < 1e-4 * result.abs().max()


@torch.no_grad()
def euler(
    unet: UNet2DConditionModel,
    text: Tensor,
    start: Tensor,
    share: float,
    config: ShiftConfig = ShiftConfig(),
    prediction: str = "epsilon",
) -> Tensor:
    """Our sampling loop with diffusers' Euler scheduler, from noise of variance 1 + σ² as ComfyUI starts."""
    video = UNet2DConditionModel.from_config(unet.config).eval()
    video.load_state_dict(unet.state_dict())
    install(video, config)
    scheduler = EulerDiscreteScheduler.from_config(paper_scheduler(prediction).config, timestep_spacing="trailing")
    scheduler.set_timesteps(5)

    def denoiser(latents: Tensor, timestep: Tensor) -> Tensor:
        positive, negative = (
            video(latents[0], timestep, each.expand(FRAMES, -1, -1), num_frames=FRAMES).sample
            for each in text[:2, None]
        )
        return (negative + 2.0 * (positive - negative))[None]

    latents = start[None] * (scheduler.sigmas[0] ** 2 + 1) ** 0.5
    return sample(denoiser, scheduler, latents, [torch.Generator()], noise_share=share)[0]


def test_samplers_that_draw_noise_draw_it_shared(model: Any, inputs: tuple[Tensor, Tensor]) -> None:
    """With a share near to all, equal frames at the start are still alike at the end; without it they are not."""
    start, text = noise(1, 4, 8, 8).expand(FRAMES, -1, -1, -1), inputs[1]
    spread = [
        sampled(share_noise(model, share), text, start.clone(), "euler_ancestral", seed=0).std(dim=0).mean()
        for share in (0.0, 100.0)
    ]
    assert spread[1] < 0.1 * spread[0]


def test_a_mask_is_refused_with_shared_noise(model: Any, inputs: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match="a latent mask can't be used with noise that frames share"):
        sampled(share_noise(model, 1.0), inputs[1], inputs[0][:FRAMES], noise_mask=torch.ones(1, 8, 8))


def test_samplers_of_cfg_pp_are_refused_with_shared_noise(model: Any, inputs: tuple[Tensor, Tensor]) -> None:
    """By what they ask of the model: the node of one has a function without that in its name."""
    import comfy.samplers
    from comfy_extras.nodes_advanced_samplers import sample_euler_pp

    found = [name for name in comfy.samplers.KSAMPLER_NAMES if "cfg_pp" in name]
    assert len(found) >= 6
    for name in found:
        with pytest.raises(ValueError, match=f"the sampler {name} can't be used with noise that frames share"):
            sampled(share_noise(model, 1.0), inputs[1], inputs[0][:FRAMES], name)
    video = share_noise(model, 1.0)
    guider = comfy.samplers.CFGGuider(video)
    guider.set_conds([[inputs[1][:1], {}]], [[inputs[1][1:2], {}]])
    sampler = comfy.samplers.KSAMPLER(sample_euler_pp)
    with pytest.raises(ValueError, match="the sampler euler_pp can't be used with noise that frames share"):
        guider.sample(inputs[0][:FRAMES], torch.zeros_like(inputs[0][:FRAMES]), sampler, torch.tensor([9.0, 1.0, 0.0]))
    video.set_model_sampler_post_cfg_function(lambda args: args["denoised"])  # a node's
    assert torch.isfinite(sampled(video, inputs[1], inputs[0][:FRAMES])).all()


@pytest.mark.slow  # it compiles
def test_what_was_compiled_without_the_shift_has_it(model: Any, inputs: tuple[Tensor, Tensor]) -> None:
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    compiled = model.clone()
    set_torch_compile_wrapper(compiled, backend="eager")
    start, text = inputs[0][:FRAMES], inputs[1]
    assert torch.allclose(sampled(compiled, text, start), sampled(model, text, start), atol=1e-4)
    expected = sampled(shifted(model), text, start)
    assert torch.allclose(sampled(shifted(compiled), text, start), expected, atol=1e-4)


def test_betas_that_it_would_ignore_are_refused(pack: Any, unet: UNet2DConditionModel) -> None:
    from latentshift_nodes.ldm_model import unet_model

    scheduler = paper_scheduler()
    schedule = {**scheduler.config, "trained_betas": scheduler.betas.tolist()}
    with pytest.raises(ValueError, match="trained_betas"):
        unet_model(unet, schedule, {"scaling_factor": 0.5, "latent_channels": 4})


@pytest.fixture
def base(unet: UNet2DConditionModel) -> LatentShiftPipeline:
    parts = {"vae": tiny_vae(), "text_encoder": tiny_bert(), "tokenizer": tiny_tokenizer()}
    return LatentShiftPipeline(unet=copy.deepcopy(unet), scheduler=paper_scheduler(), **parts)


def trained_file(base: LatentShiftPipeline, kind: str, path: Path) -> Path:
    """An adapter of the base with weights that change the result, and settings other than the paper's."""
    tuned = LatentShiftPipeline(**{**base.components, "unet": copy.deepcopy(base.unet)})
    tuned.set_shift({"padding": "replicate"})
    tuned.set_noise_share(0.5)
    tuned.scheduler = paper_scheduler("v_prediction")
    torch.manual_seed(7)
    if kind == "lora":
        lora = Lora(rank=2, alpha=4)
        add_lora(tuned.unet, lora)
        for name, value in tuned.unet.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(value, std=0.2)
        save_lora(tuned, lora, path)
    else:
        for value in tuned.unet.parameters():
            value.data += 0.05 * torch.randn_like(value)
        save_delta(tuned, base, path)
    return path


@pytest.mark.parametrize("kind", ["lora", "delta"])
def test_an_adapter_makes_what_it_makes_in_our_pipeline(
    model: Any, base: LatentShiftPipeline, inputs: tuple[Tensor, Tensor], kind: str, tmp_path: Path
) -> None:
    from latentshift_nodes.load_adapter import load_adapter as load
    from latentshift_nodes.shift_patch import shift_of

    file = trained_file(base, kind, tmp_path / "file.safetensors")
    start, text = inputs[0][:FRAMES], inputs[1]
    before = sampled(model, text, start)
    tuned = load(model, file, 1.0)
    assert shift_of(tuned) == ShiftConfig(padding="replicate")
    result = sampled(tuned, text, start)
    load_adapter(base, file)
    expected = euler(base.unet, text, start, 0.5, ShiftConfig(padding="replicate"), "v_prediction")
    assert (result - expected).abs().max() < 1e-3 * expected.abs().max()
    assert (result - before).abs().max() > 0.1 * before.abs().max()
    assert torch.equal(sampled(model, text, start), before)  # the base is as it was


def test_an_adapter_of_another_base_is_refused(model: Any, base: LatentShiftPipeline, tmp_path: Path) -> None:
    from latentshift_nodes.load_adapter import load_adapter as load

    other = LatentShiftPipeline(**{**base.components, "unet": tiny_unet()})
    for kind in ("lora", "delta"):
        file = trained_file(other, kind, tmp_path / f"{kind}.safetensors")
        with pytest.raises(
            ValueError, match=r"was made of another kind of base than this MODEL: unet\..* does not fit"
        ):
            load(model, file, 1.0)
    save_file({"unet.x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="was not made by latentshift"):
        load(model, tmp_path / "foreign.safetensors", 1.0)


def test_an_adapter_that_would_make_nothing_but_noise_is_refused(
    model: Any, base: LatentShiftPipeline, tmp_path: Path
) -> None:
    from latentshift_nodes.load_adapter import load_adapter as load

    file = trained_file(base, "lora", tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=r"strength of .* must be a finite number, not nan"):
        load(model, file, float("nan"))
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    damaged = {name: value * torch.nan for name, value in load_file(file).items()}
    save_file(damaged, tmp_path / "damaged.safetensors", metadata)
    with pytest.raises(ValueError, match="has values that are not finite"):
        load(model, tmp_path / "damaged.safetensors", 1.0)
    of_another = json.loads(metadata[ADAPTER_KEY]) | {"base_prediction_type": "v_prediction"}
    save_file(load_file(file), file, metadata | {ADAPTER_KEY: json.dumps(of_another)})
    with pytest.raises(ValueError, match="with the prediction type v_prediction, and this MODEL has epsilon"):
        load(model, file, 1.0)


def test_a_node_makes_one_clone(model: Any, base: LatentShiftPipeline, tmp_path: Path) -> None:
    """ComfyUI frees what a node made by the MODEL it was cloned from: one between them would be gone."""
    from latentshift_nodes.nodes import ApplyTemporalShift, LoadAdapter

    shift = (3, "zeros", "first_from_past", 0.5)
    assert ApplyTemporalShift.execute(model, *shift).args[0].parent is model
    folder_paths = sys.modules["folder_paths"]
    folder_paths.add_model_folder_path("loras", str(tmp_path))
    trained_file(base, "lora", tmp_path / "mine.safetensors")
    assert LoadAdapter.execute(model, "mine.safetensors", 1.0).args[0].parent is model
    with pytest.raises(ValueError, match="the input model is no MODEL, but 'x'"):
        ApplyTemporalShift.execute("x", *shift)
    with pytest.raises(ValueError, match="noise_share must be a number from 0 to 1,000, not nan"):
        ApplyTemporalShift.execute(model, *shift[:3], float("nan"))


def in_windows(model: Any, length: int, overlap: int, schedule: str, closed_loop: bool = False) -> Any:
    """ComfyUI's own context windows over the frames."""
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode

    options = {"freenoise": False, "causal_window_fix": False}  # newer ones ask for them
    known = [each.id for each in ContextWindowsManualNode.define_schema().inputs]
    options = {name: value for name, value in options.items() if name in known}
    node = ContextWindowsManualNode.execute(model, length, overlap, schedule, 1, closed_loop, "pyramid", 0, **options)
    return node.args[0]


def test_context_windows_are_clips_of_their_own(model: Any, inputs: tuple[Tensor, Tensor]) -> None:
    start, text = inputs[0][:6], inputs[1]  # one frame more than steps: ComfyUI 0.3.64 fails for other numbers
    video = shifted(model)
    halves = torch.cat([sampled(video, text, half) for half in start.split(3)])
    in_halves = sampled(in_windows(video, 3, 0, "batched"), text, start)
    assert (in_halves - halves).abs().max() < 1e-4 * halves.abs().max()
    whole = sampled(video, text, start)
    assert torch.equal(sampled(in_windows(video, 6, 2, "standard_static"), text, start), whole)
    loop = sampled(in_windows(video, 4, 2, "looped_uniform", closed_loop=True), text, start)
    assert torch.isfinite(loop).all() and not torch.equal(loop, whole)
    with pytest.raises(ValueError, match="circular padding would close a loop in every context window"):
        sampled(in_windows(shifted(model, padding="circular"), 4, 2, "looped_uniform", True), text, start)


def test_nothing_heavy_is_imported(pack: Any) -> None:
    """What ComfyUI brings along is enough for the nodes, so that the package can be installed without dependencies."""
    code = f"""
import sys
for name in ("accelerate", "diffusers", "peft", "scenedetect", "typer"):
    sys.modules[name] = None  # its import fails
sys.path[:0] = [{str(PACK.parent / "tests")!r}]
from comfyui_process import import_pack
import_pack()
from latentshift_nodes.load_model import load_model
try:
    load_model("bundled")
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "needs the latentshift package with all that it needs" in done.stdout
