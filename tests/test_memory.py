"""What a run is said to take, beside closed forms, real models and what it does take."""

from __future__ import annotations

import ast
import json
import resource
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import psutil
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import latentshift
from latentshift import LatentShiftPipeline
from latentshift.benchmarks.memory import measured_steps
from latentshift.memory.advice import advice
from latentshift.memory.estimate import ENCODING, SAMPLES, STEP, Estimate, estimate
from latentshift.memory.fake_tensors import fake_tensors
from latentshift.memory.trace import peak_memory, trace_step
from latentshift.models.storage.meta_init import meta_components
from latentshift.preemption import EXIT_CODE
from latentshift.training.data.video_batches import video_batches
from latentshift.training.recipe_file import load_recipe
from launch import Processes, command_line
from tiny_models import ONE_LEVEL, tiny_bert, tiny_unet

FOLDER = Path(__file__).parent.parent / "recipes" / "finetune-folder.yaml"
CPU = torch.device("cpu")
WIDTH, ROWS, LAYERS = 64, 1000, 5
WEIGHT, ROW_BYTES = 4 * WIDTH**2, 4 * ROWS * WIDTH


@pytest.fixture(scope="module")
def model(ldm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny latentshift folder of one level and layer: an estimate's time is that of its operations."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    parts = LatentShiftPipeline.from_pretrained(ldm_folder, shift=None, num_frames=4)
    parts.register_modules(unet=tiny_unet(**ONE_LEVEL, mid_block_type=None), text_encoder=tiny_bert(encoder_layers=1))
    parts.set_method("latent-shift")
    parts.save_pretrained(folder)
    return folder


@cache
def estimate_of(*words: str, device: str = "cpu", processes: int = 1) -> Estimate:
    """Of a recipe with these words; several tests look at the same."""
    return estimate(recipe_of(*words), torch.device(device), processes)


def recipe_of(*words: str):
    settings = ["output=run", "data={source: sprites, options: {clips: 4}}", *words]
    return load_recipe(FOLDER, settings)


class Chain(nn.Module):
    """Layers without anything between them: each keeps its input for its weight's gradient."""

    def __init__(self, recompute: bool = False, after: type[nn.Module] = nn.Identity) -> None:
        super().__init__()
        layers = (nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), after()) for _ in range(LAYERS))
        self.layers = nn.ModuleList(layers)
        self.recompute = recompute

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            rows = checkpoint(layer, rows, use_reentrant=False) if self.recompute else layer(rows)
        return rows.sum()


@pytest.mark.parametrize("gathered", [False, True])
def test_a_chain_of_layers_takes_what_its_closed_form_says(gathered: bool) -> None:
    with fake_tensors():
        chain, rows = Chain(), torch.empty(ROWS, WIDTH)
        trace = trace_step(lambda: chain(rows), list(chain.parameters()), nullcontext, gathered=gathered)
    # At the peak the last layer but one goes back: the inputs of three layers (the first one's was there before), the
    # gradients of its output and of its input, which makes five, and of its weight; the loss and its gradient. The last
    # layer's weight has its gradient.
    assert trace.gradients == (LAYERS * WEIGHT if gathered else WEIGHT)
    assert trace.activations == 5 * ROW_BYTES + WEIGHT + 2 * 4
    product = 2 * ROWS * WIDTH**2
    assert trace.flops == LAYERS * product + (2 * LAYERS - 1) * product  # the rows need no gradient


def test_recomputed_activations_are_calculated_twice_and_kept_once() -> None:
    with fake_tensors():
        rows = torch.empty(ROWS, WIDTH)
        kept, again = (
            trace_step(lambda: chain(rows), list(chain.parameters()), nullcontext, gathered=False)  # noqa: B023
            for chain in (Chain(after=nn.Tanh), Chain(recompute=True, after=nn.Tanh))
        )
    product = 2 * ROWS * WIDTH**2
    assert again.flops - kept.flops == LAYERS * product


def test_gradients_at_the_peak_are_counted_apart_from_activations() -> None:
    with fake_tensors():
        big, small = nn.Linear(WIDTH, 100 * WIDTH, bias=False), nn.Linear(100 * WIDTH, 1, bias=False)
        rows = torch.empty(2, WIDTH)
        trained = [*big.parameters(), *small.parameters()]
        trace = trace_step(lambda: small(big(rows)).sum(), trained, nullcontext, gathered=False)
    assert trace.gradients + trace.activations >= 100 * WEIGHT  # the first layer's gradient comes last
    assert trace.gradients == 4 * 100 * WIDTH  # when the other's is there


def test_freed_tensors_do_not_count_towards_the_peak() -> None:
    def work() -> None:
        for _ in range(3):
            torch.empty(ROWS, WIDTH)

    with fake_tensors():
        assert peak_memory(work) == ROW_BYTES


def test_torchs_private_modules_are_imported_where_nothing_else_does_it() -> None:
    package = Path(latentshift.__file__).parent
    importing = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if any(name.startswith("torch.") and "._" in name for name in names):
                importing.add(path.relative_to(package).as_posix())
    # torch's documentation calls AOTInductor by torch._inductor's names; torch.export's setting for counts of 1 and
    # the folder of compiled code have no other place, no public module takes structures of tensors apart, and none
    # tells whether there are global hooks or transforms of torch.func.
    compiling = {"models/acceleration.py", "models/compiled_calls.py"}
    shifting = {"shift.py", "shift_copy.py"}
    assert importing == {"memory/fake_tensors.py", "export/to_aot.py", "export/parts.py", *shifting, *compiling}


@pytest.mark.parametrize("base", ["ldm_folder", "sd1_folder", "sd2_folder", "sdxl_folder", "model"])
def test_a_skeleton_has_the_shapes_of_what_is_loaded(base: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(base)
    loaded = LatentShiftPipeline.from_pretrained(folder)
    sized = LatentShiftPipeline(**meta_components(str(folder)))
    assert sized.unet.device.type == "meta"
    assert sized.method == loaded.method and sized.config.num_frames == loaded.config.num_frames
    assert sized.text_encoders.length == loaded.text_encoders.length
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        real, shapes = getattr(loaded, part), getattr(sized, part)
        assert (real is None) == (shapes is None)
        if real is not None:
            assert {name: value.shape for name, value in real.named_parameters()} == {
                name: value.shape for name, value in shapes.named_parameters()
            }


def test_a_baselines_layers_are_counted_by_themselves(model: Path) -> None:
    parts = {part.name: part for part in estimate_of(f"model={model}", "method=latent-vdm").parts}
    pipeline = LatentShiftPipeline.from_pretrained(model)
    pipeline.set_method("latent-vdm")
    assert parts["temporal"].parameters == sum(each.numel() for each in pipeline.temporal.parameters())
    assert parts["temporal"].trained == parts["temporal"].parameters


def test_memory_is_of_what_is_trained_and_where_it_lies(model: Path) -> None:
    whole = estimate_of(f"model={model}")
    trained = sum(part.trained for part in whole.parts)
    assert whole.moments[STEP]["optimizer"] == 8 * trained and whole.moments[STEP]["averages"] == 4 * trained
    at_work = sum(part.parameters for part in whole.parts if part.at_work)
    assert whole.moments[STEP]["weights"] == 4 * at_work < whole.moments[SAMPLES]["weights"]
    assert estimate_of(f"model={model}", device="cuda").moments[STEP]["weights"] == 4 * at_work
    assert not {part.name: part for part in whole.parts}["autoencoder"].at_work
    footage = estimate_of(f"model={model}", "data.encode=false")
    assert {part.name: part for part in footage.parts}["autoencoder"].at_work
    frozen = estimate_of(f"model={model}", "train_text_encoder=false")
    assert frozen.moments[STEP]["optimizer"] < whole.moments[STEP]["optimizer"]
    lora = estimate_of(f"model={model}", "train_text_encoder=false", "lora.rank=1")
    assert lora.moments[STEP]["optimizer"] < frozen.moments[STEP]["optimizer"]
    eight = estimate_of(f"model={model}", "optimizer.kind=adamw_8bit", "compute.channels_last=false")
    assert eight.moments[STEP]["optimizer"] == 2 * trained


def test_the_shift_is_the_same_work_with_any_padding(model: Path) -> None:
    zeros, replicate = (estimate_of(f"model={model}", f"shift.padding={each}") for each in ("zeros", "replicate"))
    assert (zeros.parts, zeros.flops) == (replicate.parts, replicate.flops)
    assert replicate.total == pytest.approx(zeros.total, rel=0.02)


def test_samples_take_all_parts_and_no_gradients(model: Path) -> None:
    words = (f"model={model}", "train_text_encoder=false")
    result = estimate_of(*words)
    trained, everything = (4 * sum(getattr(part, name) for part in result.parts) for name in ("trained", "parameters"))
    samples = result.moments[SAMPLES]
    assert samples["weights"] == everything and samples["weights put aside"] == trained and "gradients" not in samples
    unguided = estimate_of(*words, "guidance_scale=1").moments[SAMPLES]  # one prediction in place of two
    assert unguided["activations"] < samples["activations"]
    gpu = estimate_of(*words, device="cuda").moments
    assert gpu[SAMPLES]["weights"] == everything > gpu[STEP]["weights"] and "weights put aside" not in gpu[SAMPLES]
    shares = ("compute.parallel=fsdp", "compute.channels_last=false")
    apart = estimate_of(*words, *shares, device="cuda", processes=2).moments
    assert apart[SAMPLES]["copy for samples"] == everything and "copy for samples" not in apart[STEP]


def test_the_fullest_moment_is_the_one_that_counts() -> None:
    result = Estimate((), {STEP: {"weights": 1, "activations": 2}, SAMPLES: {"weights": 4}}, flops=0)
    assert (result.fullest, result.total, result.memory) == (SAMPLES, 4, {"weights": 4})
    assert result.held(STEP) == 3


def test_footage_for_validation_keeps_the_autoencoder_at_work(model: Path) -> None:
    given = "{source: sprites, options: {clips: 4, seed: 1}, encode: false}"
    result = estimate_of(f"model={model}", f"validation={{every: 1, clips: 1, data: [{given}]}}")
    assert {part.name: part for part in result.parts}["autoencoder"].at_work and ENCODING in result.moments
    assert ENCODING not in estimate_of(f"model={model}").moments


def test_a_step_is_the_same_work_however_it_is_split(model: Path) -> None:
    words = (f"model={model}", "batch_size=8")
    whole = estimate_of(*words)
    parts = estimate_of(*words, "micro_batch_size=1")
    shared = estimate_of(*words, processes=4)
    assert whole.flops == parts.flops == shared.flops
    assert parts.moments[STEP]["activations"] < whole.moments[STEP]["activations"] / 4
    assert parts.moments[STEP]["gradients"] == 4 * sum(part.trained for part in parts.parts)  # all of those before
    assert shared.moments[STEP]["exchange of gradients"] == 4 * sum(part.trained for part in parts.parts)
    apart = estimate_of(*words, "compute.parallel=fsdp", "compute.channels_last=false", processes=4)
    assert all(
        apart.moments[STEP][name] == shared.moments[STEP][name] // 4 for name in ("weights", "optimizer", "averages")
    )
    unet = LatentShiftPipeline.from_pretrained(model).unet
    sizes = [
        sum(value.numel() for value in block.parameters())
        for block in unet.modules()
        if type(block).__name__ in ("ResnetBlock2D", "BasicTransformerBlock")
    ]
    unet_rest = sum(value.numel() for value in unet.parameters()) - sum(sizes)
    text = sum(part.parameters for part in apart.parts if part.name == "text_encoder")  # tiny: some of it in blocks
    assert 4 * (2 * max(sizes) + unet_rest) <= apart.moments[STEP]["gathered blocks"]
    assert apart.moments[STEP]["gathered blocks"] <= 4 * (2 * max(sizes) + unet_rest + text)
    assert apart.moments[STEP]["exchange of gradients"] == 4 * max(sizes)
    again = estimate_of(f"model={model}", "compute.gradient_checkpointing=true")
    assert again.moments[STEP]["activations"] < estimate_of(f"model={model}").moments[STEP]["activations"]


@pytest.fixture
def dry_run(cli, model: Path):
    """Of the recipe with these words over a small source: (exit code, what was printed, what was complained).

    None of them leaves a file.
    """

    def run(*words: str) -> tuple[int, str, str]:
        ended = cli("train", FOLDER, *dry_run_words(model), *words, "--dry-run")
        assert list(Path(".").iterdir()) == []
        return ended

    return run


def dry_run_words(model: Path) -> list[str]:
    return [f"model={model}", "data={source: sprites, options: {clips: 10}}", "compute.device=cpu"]


def test_a_dry_run_prints_a_recipe_and_what_it_takes(dry_run, model: Path) -> None:
    replicate = "shift.padding=replicate"
    code, out, err = dry_run(replicate)
    assert code == 0 and "warning" not in err
    Path("resolved.yaml").write_text(out)
    assert load_recipe(Path("resolved.yaml")) == load_recipe(FOLDER, [*dry_run_words(model), replicate])
    shown = dict(line[1:].split(maxsplit=1) for line in out.splitlines() if line.startswith("#   "))
    assert shown["shift"].startswith("fold 3, padding replicate, ")
    assert shown["noise_share"] == "0.0" and shown["num_frames"] == "4"  # the base's
    assert "# peak memory of a process" in out and "# FLOPs a step" in out
    assert "2.5  10 samples" in out


@pytest.mark.parametrize(
    ("words", "epoch"),
    [
        ("image_share=0.5", "5.0  10 samples"),  # half of the steps go through them
        ("validation={data: {source: sprites, options: {clips: 10}}}", "2.5  10 samples"),  # not trained on
        ("frame_curriculum={2: 9}", "2.5  10 samples, before any are rejected; of whole clips"),
    ],
)
def test_a_dry_run_counts_the_steps_of_an_epoch(dry_run, words: str, epoch: str) -> None:
    code, out, _ = dry_run(words)
    assert code == 0 and epoch in out


def test_a_dry_run_without_its_data_is_refused_after_what_it_takes(dry_run) -> None:
    code, out, err = dry_run("data=nowhere")
    assert code == 1 and "# FLOPs a step" in out and err.startswith("error: nowhere is no folder")


def test_a_dry_run_for_another_machine_needs_no_data(dry_run) -> None:
    code, out, _ = dry_run("data=nowhere", "--memory=24")
    assert code == 0 and "not known  nowhere is no folder" in out


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["validation={data: gone}"], "error: gone is no folder"),
        (["model=gone"], "there is no folder gone"),
        (["compute.precision=fp16"], "fp16 needs a GPU"),
        (["frame_curriculum={2: 9, 4: 9}"], "error: frame_curriculum has 4 frames, and a whole clip has 4"),
        (["--processes=3"], "can't be shared evenly by 3 processes"),
    ],
)
def test_a_dry_run_refuses_what_the_run_would(dry_run, words: list[str], refused: str) -> None:
    code, _, err = dry_run(*words)
    assert code == 1 and refused in err and err.startswith("error: ") and "Traceback" not in err


def test_a_run_that_is_too_large_is_warned_of_with_what_would_fit(cli, model: Path) -> None:
    code, _, err = cli("train", FOLDER, *dry_run_words(model), "batch_size=10000000", "--dry-run")
    assert code == 0 and err.startswith("warning: the run takes about") and "micro_batch_size=1 it takes" in err


def test_advice_where_nothing_helps_is_to_train_less(model: Path) -> None:
    text = advice(recipe_of(f"model={model}"), CPU, limit=1000)
    assert "with micro_batch_size=1 compute.gradient_checkpointing=true it takes" in text
    assert text.endswith("train less in a new run: smaller or fewer frames, or an adapter (lora.rank=16)")
    least = ("micro_batch_size=1", "compute.gradient_checkpointing=true")
    lora = recipe_of(f"model={model}", "train_text_encoder=false", "lora.rank=1", *least)
    assert advice(lora, CPU, limit=1000).endswith("smaller or fewer frames")


def test_single_frames_with_a_text_each_are_a_step_of_their_own(model: Path) -> None:
    clips = estimate_of(f"model={model}")
    mixed = estimate_of(f"model={model}", "image_share=0.25")
    images = estimate_of(f"model={model}", "image_share=0.999999")
    assert (
        mixed.moments[STEP]["activations"] == images.moments[STEP]["activations"] > clips.moments[STEP]["activations"]
    )  # the larger one
    assert mixed.flops == pytest.approx(0.75 * clips.flops + 0.25 * images.flops, rel=1e-4)


def test_a_gpu_that_is_not_here_can_be_sized(cli, model: Path) -> None:
    words = [*dry_run_words(model), "compute.device=cuda", "--dry-run"]
    code, out, err = cli("train", FOLDER, *words, "--memory=80")
    assert code == 0 and "warning" not in err and "Python and libraries" not in out
    code, _, err = cli("train", FOLDER, *words, "--memory=0.001")
    assert code == 0 and "of the 0.0 GiB of the memory of cuda" in err
    if not torch.cuda.is_available():
        code, _, err = cli("train", FOLDER, *words)
        assert code != 0 and "Traceback" not in err
    settings = (f"model={model}", "compute.attention=default")
    half = estimate_of(*settings)  # in bf16, norms are kept in float32 on a GPU
    precise = estimate_of(*settings, device="cuda")
    assert precise.moments[STEP]["activations"] > half.moments[STEP]["activations"]


def test_words_for_a_dry_run_are_refused_without_one(cli, model: Path) -> None:
    code, _, err = cli("train", FOLDER, f"model={model}", "data=sprites", "--processes=8")
    assert code != 0 and "torchrun --nproc-per-node=N" in err


def train_in_little_memory(*words: str) -> None:
    torch.set_num_threads(1)
    size = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (size + 900 * 2**20,) * 2)
    command_line("train", *words)


def test_memory_that_runs_out_ends_the_run_with_what_to_change(model: Path, tmp_path: Path) -> None:
    words = [f"model={model}", "data={source: sprites, options: {clips: 4}}", "batch_size=4096", "steps=3"]
    words += ["optimizer.warmup_steps=0", "optimizer.decay_steps=0", "compute.precision=fp32", f"output={tmp_path}/run"]
    words += ["compute.device=cpu", "loading.workers=1"]
    process = Processes(train_in_little_memory, str(FOLDER), *words)
    (code,) = process.ended()
    assert code not in (0, EXIT_CODE), process.last_words()
    (line,) = [line for line in process.errors().splitlines() if line.startswith("error:")]
    assert line.startswith("error: out of memory: the run takes about") and "with micro_batch_size=1" in line
    assert line.endswith("; nothing was saved yet")
    reported = float(line.split("about ")[1].split()[0])
    expected = estimate(load_recipe(FOLDER, words), CPU, base=0).total / 2**30
    assert expected < reported < expected + 1.5  # Python and its libraries, and not the run once more
    assert "Traceback" not in process.errors()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.9])
def test_steps_to_measure_are_on_clips_and_one_on_single_frames(share: float) -> None:
    spec = video_batches(2, 8, share)
    steps = measured_steps(5, share, quick=False)
    assert len(set(steps)) == len(steps) == (6 if share else 5)
    assert [spec(step).num_frames for step in steps] == [8] * 5 + [1] * (share > 0)
    assert measured_steps(5, share, quick=True) == steps[:5]


@pytest.mark.slow
def test_steps_take_the_memory_that_is_said(cli, tmp_path: Path) -> None:
    recipe = Path(__file__).parent.parent / "recipes" / "sprites-video.yaml"
    data = "data={source: sprites, options: {clips: 8}}"
    code, _, err = cli("bench", "memory", recipe, "model=bundled", data, "batch_size=64", "--json", "m.json")
    assert code == 0, err
    rows = [row for row in json.loads(Path("m.json").read_text())["rows"] if "measured_gib" in row]
    assert [row["what"] for row in rows] == ["steps", "samples"]
    for row in rows:
        assert row["estimated_gib"] == pytest.approx(row["measured_gib"], rel=0.25)
