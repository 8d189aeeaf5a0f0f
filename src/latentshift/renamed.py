"""Old names of modules, functions and classes: they work for one release, with a warning, and then go.

To rename something, add one entry: a module to ``MODULES``; a name within a module, under the module's new name, to
``NAMES``; a name that is in another module now to ``MOVED``. ``import old.module`` and
``from old.module import old_name`` then give the new objects.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, cast

_PACKAGE = "latentshift"

# Old module -> the modules that hold its content now, all below the package; a package's submodules one by one.
MODULES: dict[str, tuple[str, ...]] = {
    "benchmarks.compare": ("benchmarks.timing",),
    "benchmarks.methods": ("benchmarks.ladder",),
    "benchmarks.training": ("benchmarks.train",),
    "clip": ("frame_context",),
    "complaints": ("error_text",),
    "data.ahead": ("data.prefetch",),
    "data.clips": ("data.dataset",),
    "data.encoded": ("data.latents",),
    "data.encoded.clips": ("data.latents.latent_dataset",),
    "data.encoded.encode": ("data.latents.encode",),
    "data.encoded.journal": ("data.latents.partial_shard",),
    "data.encoded.plan": ("data.latents.spec",),
    "data.encoded.settle": ("data.latents.resolve",),
    "data.encoded.shard": ("data.latents.shard",),
    "data.fence": ("data.worker_pool",),
    "data.footage.drawn": ("data.footage.sprite_clip",),
    "data.footage.media": ("data.media",),
    "data.left_out": ("data.rejected_list",),
    "data.order": ("data.sample_order",),
    "data.refusal": ("data.rejected",),
    "evaluation.clip_drift": ("evaluation.sprites.clip_drift",),
    "evaluation.earlier_readings": ("evaluation.sprites.earlier_readings",),
    "evaluation.keyframe_measures": ("evaluation.sprites.keyframe_measures",),
    "evaluation.one_clip_measures": ("evaluation.sprites.one_clip_measures",),
    "evaluation.palette": ("evaluation.sprites.palette",),
    "evaluation.pool_scores": ("evaluation.sprites.pool_scores",),
    "evaluation.prompt_looks": ("evaluation.sprites.prompt_looks",),
    "evaluation.report.hub_upload": ("hub.upload",),
    "evaluation.report.model_card": ("hub.model_card",),
    "evaluation.sprite_distances": ("evaluation.sprites.distances",),
    "evaluation.sprite_examples": ("evaluation.sprites.examples",),
    "evaluation.sprite_reader": ("evaluation.sprites.reader",),
    "evaluation.sprite_report": ("evaluation.sprites.report",),
    "evaluation.sprite_stability": ("evaluation.sprites.stability",),
    "evaluation.sprite_tracks": ("evaluation.sprites.tracks",),
    "evaluation.sprites_study": (
        "evaluation.sprites.parts",
        "evaluation.sprites.readings",
        "evaluation.sprites.scores",
        "evaluation.settings_file",
    ),
    "evaluation.study": ("evaluation.sprites.study", "evaluation.sprites.scores"),
    "image_pipelines.pictures": ("models.pictures",),
    "locate": ("model_paths",),
    "lock": ("files",),
    "models.adapter": ("models.adapters.video_adapter",),
    "models.adapter_fit": ("models.adapters.adapter_fit",),
    "models.adapters.adapter": ("models.adapters.video_adapter",),
    "models.base_settings": ("models.storage.base_settings",),
    "models.caption_length": ("models.conditioning.caption_length",),
    "models.check_saveable": ("models.storage.check_saveable",),
    "models.config_schema": ("models.storage.config_schema",),
    "models.convert_checkpoint": ("models.storage.convert_checkpoint",),
    "models.digest": ("models.storage.fingerprint",),
    "models.explain_failure": ("models.storage.explain_failure",),
    "models.export_diffusers": ("models.storage.export_diffusers",),
    "models.families": ("models.storage.families",),
    "models.fingerprint": ("models.storage.fingerprint",),
    "models.ip_adapter": ("models.adapters.ip_adapter",),
    "models.load_pipeline": ("models.storage.load_pipeline",),
    "models.loaders": ("models.adapters.loaders",),
    "models.lora_file": ("models.adapters.lora_file",),
    "models.lora_settings": ("models.adapters.lora_settings",),
    "models.lora_weights": ("models.adapters.lora_weights",),
    "models.meta_init": ("models.storage.meta_init",),
    "models.model_config": ("models.storage.model_config",),
    "models.original": ("models.storage.convert_checkpoint",),
    "models.original_layout": ("models.storage.original_layout",),
    "models.pretrained": ("models.storage.pretrained",),
    "models.prompt_schedule": ("models.conditioning.prompt_schedule",),
    "models.prompts": ("models.conditioning.prompts",),
    "models.safetensors_header": ("models.storage.safetensors_header",),
    "models.saved_pipeline": ("models.storage.saved_pipeline",),
    "models.shared_weights": ("models.storage.shared_weights",),
    "models.skeleton": ("models.storage.meta_init",),
    "models.source_paths": ("models.storage.source_paths",),
    "models.standalone_pipeline": ("models.storage.standalone_pipeline",),
    "models.text": ("models.conditioning.text",),
    "models.text_projection": ("models.conditioning.text_projection",),
    "models.weight_files": ("models.storage.weight_files",),
    "training.arithmetic": ("training.precision",),
    "training.best": ("training.run_log",),
    "training.check": ("training.preflight",),
    "training.folder": ("training.run_folder", "training.preflight"),
    "training.journal": ("training.metric_logger",),
    "training.learner": ("training.train_state",),
    "training.lines": ("training.run_log",),
    "training.moments": ("training.optimizer",),
    "training.preemption": ("preemption",),
    "training.processes": ("training.distributed",),
    "training.rate": ("training.optimizer",),
    "training.review": ("training.periodic_eval",),
    "training.saver": ("training.checkpointer",),
    "training.sharding": ("training.distributed",),
    "training.sizing": ("memory",),
    "training.sizing.advice": ("memory.advice",),
    "training.sizing.estimate": ("memory.estimate",),
    "training.sizing.footprint": ("memory.trace", "memory.fake_tensors"),
    "training.sizing.work": ("memory.workload",),
    "training.stage": ("training.stages.base",),
    "training.stages.data": ("training.datasets",),
    "training.stages.denoiser": ("training.stages.image", "training.stages.video"),
    "training.stages.objective": ("training.losses",),
    "training.stages.prepare": ("training.build", "model_paths"),
    "training.stages.source": ("training.data_source",),
    "training.stages.validation": ("training.validation",),
    "training.termination": ("preemption",),
    "video.record": ("video.metadata",),
    "video.scaling": ("video.pixels",),
    "video.values": ("video.pixels",),
    "whole": ("files",),
}

# Module as it is called now ("" is the package itself) -> old name -> new name.
NAMES: dict[str, dict[str, str]] = {
    "": {"frames_apart": "frames_independent"},
    "benchmarks.ladder": {
        "MethodComparison": "Ladder",
        "MethodResult": "RungResult",
        "bench_methods": "bench_ladder",
    },
    "benchmarks.timing": {"in_turns": "interleaved_timing"},
    "data.dataset": {"ClipSet": "ClipDataset", "Footage": "FootageDataset"},
    "data.inspection.examine": {"Facts": "ClipInfo", "Question": "ExamineTask"},
    "data.inspection.inspect": {"look_through": "inspect_rows"},
    "data.inspection.page": {"Shown": "SampleClip"},
    "data.inspection.split": {"Cutting": "SplitTask", "cut": "split_video"},
    "data.latents.encode": {"Look": "DecodeTask"},
    "data.latents.latent_dataset": {"EncodedClips": "LatentDataset", "EncodedRequest": "LatentRequest"},
    "data.latents.partial_shard": {"Journal": "PartialShard"},
    "data.latents.resolve": {"settle_source": "resolve_source"},
    "data.latents.shard": {"Contents": "ShardBuilder"},
    "data.latents.spec": {
        "Plan": "LatentSpec",
        "left_out_path": "rejected_path",
        "plan_digest": "spec_digest",
        "shard_facts": "shard_info",
        "write_plan": "write_spec",
    },
    "data.loader": {"Take": "BatchSpec", "fulfil": "read_request"},
    "data.manifest": {"LeftOut": "RejectedRow"},
    "data.prefetch": {"ahead": "prefetch", "ahead_where_slow": "prefetch_if_slow"},
    "data.rejected": {"Refused": "Rejected"},
    "data.rejected_list": {"LeftOutList": "RejectedList"},
    "data.sample_order": {
        "Choices": "LazyRng",
        "draws": "rng_for",
        "shuffled_place": "shuffled_index",
        "whole_weights": "integer_weights",
    },
    "data.sources": {"source_from": "parse_source"},
    "data.worker_pool": {"Fence": "WorkerPool", "Limits": "WorkerLimits"},
    "evaluation.settings_file": {"settle": "check_or_write_settings"},
    "evaluation.sprites.parts": {"questions": "prompts_of"},
    "error_text": {"in_a_line": "one_line", "in_words": "format_validation_error"},
    "files": {
        "check_place": "check_writable",
        "open_alone": "open_locked",
        "whole": "atomic_write",
        "write_whole": "atomic_write_text",
    },
    "frame_context": {
        "ClipContext": "FrameContext",
        "clip_context": "frame_context",
        "enter": "register",
        "frames_apart": "frames_independent",
        "leave": "unregister",
    },
    "memory.fake_tensors": {"shapes_alone": "fake_tensors"},
    "memory.trace": {"Footprint": "StepTrace", "footprint": "trace_step", "peak_of": "peak_memory"},
    "memory.workload": {"RunWork": "Workload", "work_of": "workload_of"},
    "model_paths": {"locate_model": "resolve_model", "trained_autoencoder": "autoencoder_folder"},
    "models.adapters.video_adapter": {"TARGETS": "LORA_TARGETS"},
    "models.storage.config_schema": {"Kind": "Constraint"},
    "models.storage.convert_checkpoint": {"read_original": "load_original_checkpoint"},
    "models.storage.fingerprint": {"model_digest": "model_fingerprint", "weights_digest": "weights_fingerprint"},
    "models.storage.meta_init": {"skeleton": "meta_components"},
    "models.conditioning.text": {"SentenceEncoder": "TextEncoders", "whole_words": "vocabulary_words"},
    "preemption": {"Termination": "SigtermHandler"},
    "training.build": {"make_video_model": "prepare_video_model"},
    "training.checkpoint": {"set_aside": "quarantine_after"},
    "training.distributed": {"sharded": "shard_with_fsdp", "split": "split_batch", "whole_tensor": "full_tensor"},
    "training.losses": {"AutoencoderObjective": "AutoencoderLoss", "DenoisingObjective": "DenoisingLoss"},
    "training.run_settings": {"conflicts_with_shares": "fsdp_conflicts"},
    "training.preflight": {"check_run": "validate_run"},
    "training.run": {"stage_of": "build_stage"},
    "training.run_folder": {"held": "lock_run"},
    "training.run_log": {"add_line": "append_jsonl", "forget_after": "truncate_after", "read_lines": "read_jsonl"},
    "training.settings": {"CLIPS_ALONE": "VALIDATION_IS_CLIPS_ONLY", "SpritesSettings": "FramesSettings"},
    "training.train_state": {"Learned": "StepResult"},
    "video.pixels": {"careful": "accurate_interpolation"},
}

# Module -> name that it had -> the module that has it now.
MOVED: dict[str, dict[str, str]] = {
    "diffusion.samplers": {
        "KNOWN_SCHEDULERS": "diffusion.schedulers",
        "check_distilled": "diffusion.sampler_names",
        "check_eta": "diffusion.schedulers",
        "check_linear": "diffusion.schedulers",
        "check_sampling": "diffusion.schedulers",
        "check_scheduler": "diffusion.schedulers",
        "clipping_setting": "diffusion.schedulers",
        "default_guidance": "diffusion.sampler_names",
        "default_steps": "diffusion.sampler_names",
        "set_timesteps": "diffusion.schedulers",
        "settings_of": "diffusion.schedulers",
    },
    "evaluation.protocols.readings": {
        "DoneCounter": "evaluation.protocols.readings_files",
        "ReadingsWriter": "evaluation.protocols.readings_writer",
    },
    "models.storage.families": {
        "OUR_PARTS": "models.storage.saved_pipeline",
        "OUR_SETTINGS": "models.storage.saved_pipeline",
        "check_parts": "models.storage.saved_pipeline",
        "check_settings": "models.storage.saved_pipeline",
        "find_family": "models.storage.saved_pipeline",
        "load_part": "models.storage.load_pipeline",
    },
    "models.adapters.lora_file": {
        "check_lora_fits": "models.adapters.adapter_fit",
        "layers_of": "models.adapters.adapter_fit",
        "saved_layers": "models.adapters.adapter_fit",
    },
    "training.datasets": {"count_samples": "training.sample_counts"},
    "training.frames": {"count_frames": "training.sample_counts"},
    "training.recipe": {
        "DiffusionSettings": "training.recipes.diffusion",
        "FramesSettings": "training.settings",
        "SpritesSettings": "training.settings",
        "dump_recipe": "training.recipe_file",
        "fsdp_conflicts": "training.run_settings",
        "load_recipe": "training.recipe_file",
    },
}

_warned: set[str] = set()


def warn_renamed(old: str, new: str) -> None:
    """Warn once a process that ``old`` is called ``new`` now."""
    if old in _warned:
        return
    _warned.add(old)
    frame = sys._getframe(1)
    ours = {__name__, _PACKAGE}  # and the import system: what is named is the line that uses the old name
    while frame.f_back and (frame.f_globals.get("__name__") in ours or "importlib" in frame.f_code.co_filename):
        frame = frame.f_back
    warnings.warn_explicit(
        f"{old} is called {new} now; the old name goes in the next release",
        FutureWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        frame.f_globals.get("__name__"),
    )


def old_name(module: str, name: str) -> Any:
    """The object that ``name`` meant in a module, called ``module`` now.

    Raises:
        AttributeError: if there was none.
    """
    below = _below(module)
    if (new := NAMES.get(below, {}).get(name)) is not None:
        home = module
    elif (moved := MOVED.get(below, {}).get(name)) is not None:
        home, new = f"{_PACKAGE}.{moved}", name
    else:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warn_renamed(f"{module}.{name}", f"{home}.{new}")
    return getattr(import_module(home), new)


def install_finder() -> None:
    """Let the import system find old modules, and old names in modules that are imported from now on."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _below(module: str) -> str:
    return module.removeprefix(_PACKAGE).removeprefix(".")


class _Finder:
    """First on ``sys.meta_path``; leaves all but modules with an entry above to the others."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(_PACKAGE + "."):
            return None
        below = _below(fullname)
        if below in MODULES:
            return ModuleSpec(fullname, cast(Any, _OldModule(MODULES[below])), is_package=True)
        if below in NAMES or below in MOVED:
            spec = PathFinder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                vars(spec.loader)["exec_module"] = _then_old_names(spec.loader.exec_module)
            return spec
        return None


class _OldModule:
    """Loader of a module that is called otherwise now: what is asked of it comes from the new one."""

    def __init__(self, homes: tuple[str, ...]) -> None:
        self.homes = [f"{_PACKAGE}.{home}" for home in homes]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None  # the usual one

    def exec_module(self, module: ModuleType) -> None:
        old, homes = module.__name__, self.homes
        warn_renamed(old, " and ".join(homes))

        def __getattr__(name: str) -> Any:  # noqa: N807
            if not name.startswith("__"):
                for home in homes:
                    try:
                        return getattr(import_module(home), name)
                    except AttributeError:
                        continue
            raise AttributeError(f"module {old!r} has no attribute {name!r}")

        vars(module)["__getattr__"] = __getattr__


def _then_old_names(exec_module: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def run(module: ModuleType) -> None:
        exec_module(module)
        vars(module).setdefault("__getattr__", lambda name: old_name(module.__name__, name))

    return run
