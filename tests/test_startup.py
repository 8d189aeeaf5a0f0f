"""A mistake is refused before a heavy library is imported: no waiting for torch to be told of a wrong word."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from latentshift import settings
from latentshift.models.storage.base_settings import OUR_NAMES
from latentshift.models.storage.families import FAMILIES
from latentshift.training.recipe import VideoRecipe

# What a mistake is refused without.
HEAVY = ("torch", "diffusers", "transformers", "peft", "bitsandbytes", "accelerate", "scipy")
RECIPE = "stage: video\noutput: run\nsteps: 400\nbatch_size: 1\nmodel: bundled\ndata: clips\n"

LOOKS = "--prompt 'a red star dancing on a navy background' --other 'a blue ring dancing on a black background'"

# Command -> what its one sentence says.
MISTAKES = {
    "generate": "give a prompt",
    "generate ''": "the prompt is empty",
    "generate star --model nowhere": "there is no folder nowhere",
    "generate star --model clips": "clips holds no diffusers pipeline: it has no model_index.json",
    "generate star --model other": "holds a FluxPipeline",
    "generate star --size 60": "--size must be multiples of 8 and 32 or more for this model, not 60x60",
    "generate star --size 64x60": "--size must be multiples of 8 and 32 or more for this model, not 64x60",
    "evaluate msrvtt nowhere.json --size 60": "--size must be multiples of 8 and 32 or more for this model, not 60x60",
    "generate star --size wide": "--size must be",
    "generate star --steps 1": "--steps must lie between 2 and 1000, not 1",
    "generate star --steps 0 --sampler ddim": "--steps must lie between 1 and 1000",
    "generate star --steps 5000": "must lie between 2 and 1000",
    "generate star --steps 0 --model someone/tiny": "--steps must be 1 or more",
    "generate star --guidance -1": "--guidance must be a finite number of 0 or more, not -1",
    "generate star --guidance 1 --negative blurred": "--negative has no effect without guidance, with --guidance 1",
    "generate star --frames 0": "--frames must be from 1 to 100,000",
    "generate star --frames 100000000": "--frames must be from 1 to 100,000, not 100,000,000",
    "generate star --frame-chunk 0": "--frame-chunk must be a whole number from 1 to the video's 16 frames, not 0",
    "generate star --frame-chunk -8": "--frame-chunk must be a whole number from 1 to the video's 16 frames, not -8",
    "generate star --frame-chunk 9 --frames 8": "from 1 to the video's 8 frames, not 9",
    "generate star --frame-chunk 4 --model attending": "Latent-VDM's temporal attention looks at all frames at once",
    "generate star --size 1000000": "16 frames of 1,000,000x1,000,000 pixels take 44,703 GiB and more",
    "generate star --frames 100000 --size 1000000 --model someone/tiny": "take 279,396,772 GiB and more",
    "generate star --keyframe frame.png": "--keyframe is PATH:FRAME or PATH:FRAME:STRENGTH",
    "generate star --keyframe frame.png:16": "--keyframe names frame 16, and the video has 16: choose from 0 to 15",
    "generate star --keyframe frame.png:8 --frames 8": "names frame 8, and the video has 8",
    "generate star --keyframe frame.png:0 --keyframe frame.png:-16": "--keyframe names frame 0 of the video twice",
    "generate star --keyframe frame.png:0:1.5": "the strength of --keyframe frame.png:0:1.5 must be a number from 0",
    "generate star --keyframe nowhere.png:0": "there is no file nowhere.png",
    "generate star --keyframe recipe.yaml:0": "recipe.yaml is no picture of a known kind",
    "generate star --keyframe frame.png:0 --size 32": "frame.png is 64x64 pixels, and the video's frames are 32x32",
    "generate star --keyframe clear.png:0": "clear.png has an alpha channel: save it without transparency",
    "generate star --keyframe frame.png:0 --runtime aot": "--keyframe has no effect with --runtime aot: an export has",
    "generate star --guidance-parallel": "--guidance-parallel needs several processes: torchrun --nproc-per-node=N",
    "generate star --rank-timeout 0": "--rank-timeout must be above 0 and at most 2,592,000 seconds (30 days), not 0",
    "generate star --video nowhere.mp4": "there is no file nowhere.mp4",
    "generate star --video recipe.yaml": "recipe.yaml is neither a video nor a picture by its name",
    "generate star --video clips": "clips has no frames: give a video, or a folder of .png or .jpg files",
    "generate star --video clear.png": "clear.png can't be used: parts of it are transparent",
    "generate star --video stills": "stills has 1 frames, and the video 16: ask for fewer frames",
    "generate star --video frame.png --strength 2": "--strength must be a number from 0 to 1, not 2",
    "generate star --video frame.png --strength 0.1 --steps 4": "leaves none of 4 steps: give 0, or 0.25 or more",
    "generate star --video frame.png --video-start 1": "frame.png has no times, so that no start can be given",
    "generate star --video frame.png --runtime aot": "--video has no effect with --runtime aot: an export has",
    "generate star --strength 0.5": "--strength is of --video: name a clip to start from",
    "generate star --video-start 1": "--video-start is of --video",
    "generate star --prompt-at star": "--prompt-at is FRAME=PROMPT, as 8=\"a blue star\", not 'star'",
    "generate star --prompt-at 1.5=star": "--prompt-at is FRAME=PROMPT",
    "generate star --prompt-at 8=": "--prompt-at is FRAME=PROMPT",
    "generate star --prompt-at 16=ring": "--prompt-at names frame 16, and the video has 16: choose from 0 to 15",
    "generate star --prompt-at 0=ring": "--prompt-at names frame 0, which the prompt itself has",
    "generate star --prompt-at 15=ring --prompt-at -1=heart": "--prompt-at names frame 15 twice: give each frame one",
    "generate star ring --prompt-at 8=heart": "--prompt-at changes one prompt, and there are 2",
    "generate star --prompt-at 8=heart --extend 1": "--prompt-at and --extend don't go together",
    "generate star --prompt-at 8=heart --runtime aot": "--prompt-at has no effect with --runtime aot: an export takes",
    "generate star --guidance-interval 800:200": "--guidance-interval must be two timesteps, from low to high",
    "generate star --guidance-interval 0.5": "--guidance-interval must be two timesteps",
    "generate star --guidance-interval 0:999 --runtime aot": "--guidance-interval has no effect with --runtime aot",
    "generate star --speed fast --deep-cache 2": "--speed fast decides by itself what is left out",
    "generate star --deep-cache 1": "Invalid value for",
    "generate star --deep-cache-branch 1": "--deep-cache-branch has no effect without --deep-cache",
    "evaluate sprites --deep-cache-branch 1": "--deep-cache-branch has no effect without --deep-cache",
    "generate star --extend 0": "--extend must be 1 or more, not 0",
    "generate star --overlap 4": "--overlap is of --extend",
    "generate star --extend 1 --overlap 16": "--overlap must be from 1 to 15, below the 16 frames of a call, not 16",
    "generate star --extend 1 --overlap 8 --frames 8": "--overlap must be from 1 to 7, below the 8 frames",
    "generate star --extend 1 --loop": "--extend and --loop don't go together",
    "generate star --extend 1 --frames 1": "--extend is for videos, and --frames 1 makes an image",
    "generate star --extend 99999": "--extend 99999 makes 800,008 frames, and a video has at most 100,000",
    "generate star --extend 1 --runtime aot": "--extend has no effect with --runtime aot: an export makes single clips",
    "bench keyframes nowhere": "there is no folder nowhere",
    "bench keyframes --steps 0": "--steps must lie between 2 and 1000",
    "bench one-clip nowhere.mp4 --lora wide.safetensors --prompt star --other ring": "must have the form",
    f"bench one-clip nowhere.mp4 --lora wide.safetensors {LOOKS}": "there is no file nowhere.mp4",
    f"bench one-clip frame.png --lora wide.safetensors {LOOKS}": "wide.safetensors is a LoRA of another model",
    "generate star --variant nope": "has no weights of the variant 'nope': its files have none",
    "generate star --sampler best": "unknown sampler 'best'",
    "generate star --device tpu": "the device 'tpu' cannot be used",
    "generate star --dtype int4": "unknown dtype 'int4'",
    "generate star --lora nothing.safetensors": "there is no file nothing.safetensors",
    "generate star --lora cut.safetensors": "cut.safetensors can't be read as safetensors",
    "generate star --delta cut.safetensors": "cut.safetensors can't be read as safetensors",
    "generate star --lora foreign.safetensors": "foreign.safetensors is no LoRA: its tensor a is neither lora_A",
    "generate star --lora foreign.safetensors:much": "the weight of foreign.safetensors must be a number, as in foreig",
    "generate star --lora foreign.safetensors:nan": "the weight of foreign.safetensors must be a number",
    "generate star --lora style.ckpt": "style.ckpt is a pickle, which can run any code when it is opened",
    "generate star --lora named-otherwise.safetensors:0.5": "named-otherwise.safetensors is a pickle",
    "generate star --lora wide.safetensors": "wide.safetensors is a LoRA of another model than this one: down_blocks_1",
    "generate star --lora sdxl.safetensors": "of another model than this one: its unet has no layer down_blocks_9_conv",
    "generate star --lora original.safetensors": "original.safetensors is a LoRA of another model than this one: input",
    "generate star --lora two.safetensors": "two.safetensors is a LoRA of another model than this one: it has no text_",
    "generate star --lora ranks.safetensors": "ranks.safetensors is damaged: the two factors of lora_unet_conv_in.lora",
    "generate star --lora peft.safetensors": "adapter_config.json, which says how strong it is (lora_alpha), is not be",
    "generate star --lora lokr.safetensors": "lokr.safetensors is of LyCORIS or DoRA (lora_unet_conv_in.lokr_w1), and",
    "evaluate msrvtt nowhere.json --lora style.ckpt": "style.ckpt is a pickle",
    "generate star --lora delta.safetensors": "delta.safetensors is a delta and no lora",
    "generate star -o a.tiff": "a.tiff",
    "generate --prompts-file nothing.txt": "cannot read",
    "generate star --colour red": "No such option",
    "info nowhere": "there is no folder nowhere",
    "info clips": "holds no diffusers pipeline",
    "generate star --model unindexed": "holds no diffusers pipeline: unindexed/model_index.json is a pipe or device",
    "info unindexed": "unindexed holds no diffusers pipeline: unindexed/model_index.json is a pipe or device",
    "info unindexed/model_index.json": "unindexed/model_index.json is a pipe or device, and a model is a folder",
    "info piped": "piped/unet/config.json is a pipe or device, and no file",
    "generate star --model piped": "piped/unet/config.json is a pipe or device, and no file",
    "info worded": "worded/model_index.json: num_frames must be a whole number from 1 to 100,000, not 'sixteen'",
    "generate star --model rescheduled": "rescheduled/scheduler/scheduler_config.json: schedule_shift is 2.0; latent",
    "info foreign-sampler": "foreign-sampler/scheduler/scheduler_config.json: the scheduler is a FlowMatchEulerDiscr",
    "generate star --model inpainting": "inpainting/unet/config.json: in_channels is 9 (an inpainting model's); latent",
    "info --variant nope": "has no weights of the variant 'nope'",
    "evaluate bundled --seen 2": "), not bundled; the evaluation on sprites is",
    "evaluate --seen 2": "is `latentshift evaluate sprites [MODEL]` now",
    "evaluate sprites nowhere": "there is no folder nowhere",
    "evaluate sprites --seen -1": "--seen must be from 0 to 100,000, not -1",
    "evaluate sprites --seen 0 --held-out 0 --images 0 --shift-off 0": "there is nothing to evaluate: --seen, --",
    "evaluate sprites --held-out 99999999999": "--held-out must be from 0 to 100,000, not 99,999,999,999",
    "evaluate sprites --sampler best": "unknown sampler 'best'",
    "evaluate sprites --sampler lcm": "this command adds no LoRA to a model: choose from ddpm,",
    "evaluate msrvtt rows.csv --sampler tcd": "--sampler tcd is for weights that were distilled for it: give",
    "bench keyframes --sampler lcm": "--sampler lcm is for weights that were distilled for it: give",
    "bench sampling --way sampler=tcd": "adds no LoRA to a model: choose from ddpm,",
    "evaluate sprites --steps 5000": "must lie between 2 and 1000",
    "evaluate sprites --keep some": "--keep must be one of none, examples, all, not 'some'",
    "evaluate sprites --variant nope": "has no weights of the variant 'nope'",
    "evaluate folder nowhere --paired": "--paired compares each clip with its true clip: name their folder with",
    "evaluate folder nowhere": "there is no folder nowhere",
    "evaluate folder stills --frames 0": "--frames must be from 1 to 100,000, not 0",
    "evaluate folder recipe.yaml": "recipe.yaml is a file, and no folder",
    "evaluate folder stills --captions nowhere": "there is no file nowhere",
    "evaluate folder stills --workers 0": "--workers must be 1 or more, not 0",
    "evaluate folder stills --time-limit 0": "--time-limit must be a number of seconds above 0, not 0",
    "evaluate folder stills --extractors best": "there is no extractor 'best'",
    "evaluate folder stills --extractors i3d": "the extractor i3d (FVD and KVD of clips) is missing",
    "evaluate msrvtt nowhere.json --system gif": "--system must be one of video, frozen, images, frozen-images",
    "evaluate msrvtt nowhere.json --keep some": "--keep must be one of none, examples, all",
    "evaluate msrvtt nowhere.json --bootstrap-seed -1": "'--bootstrap-seed': Input should be greater than or equal",
    "evaluate msrvtt nowhere.json --size 0": "--size must be a number of pixels, not 0",
    "evaluate msrvtt stills --extractors sprites-frames": "stills is a folder, and MSR-VTT's annotations are a JSON",
    "evaluate msrvtt nowhere.json": "the extractor inception-2015 (FID, KID and IS of frames) is missing",
    "evaluate ucf101 nowhere --steps 5000": "must lie between 2 and 1000",
    "evaluate ucf101 stills --extractors sprites-clips": "give the folder of the official lists as lists",
    "evaluate ucf101 stills --extractors sprites-clips --videos 0": "--videos and --repeats must be 1 or more, not 0",
    "evaluate ucf101 stills --extractors sprites-clips --videos 9999999": "must be 1,000,000 or less, not 9,999,999",
    "evaluate ucf101 nowhere": "the extractor i3d (FVD and KVD of clips) is missing",
    "evaluate extractors --unverified c3d": "--unverified needs --add FILE",
    "evaluate extractors --add nowhere": "there is no file or folder nowhere",
    "evaluate extractors --add unindexed/model_index.json": "unindexed/model_index.json is a pipe or device, and",
    "evaluate extractors --add stills": "stills is not the folder of a known extractor, which has all of these files",
    "evaluate extractors --add recipe.yaml": "which is not a known one",
    "evaluate extractors --add recipe.yaml --unverified best": "there is no extractor 'best'",
    "evaluate report": "Missing argument",
    "evaluate report nowhere": "there is no folder nowhere",
    "evaluate report stills": "stills holds no report.json: name the folder that an evaluation or `latentshift study",
    "evaluate report recipe.yaml": "recipe.yaml is a file, and a report is named by its folder: name the folder of a r",
    "evaluate report wrong/report.json": "wrong/report.json is a file, and a report is named by its folder: name wrong",
    "evaluate report wrong": "wrong/report.json is no report of latentshift-evaluation/1: protocol: is required",
    "evaluate sheet": "Missing argument",
    "evaluate sheet clips --prompt ''": "--prompt is empty: give the words that a clip was made for",
    "evaluate sheet clips --prompt star --columns 1000000": "--columns must be from 1 to 100, not 1,000,000",
    "evaluate sheet =ours --prompt star": "=ours names no system: write NAME=FOLDER, or FOLDER alone",
    "evaluate sheet ours= --prompt star": "ours= names no folder: write NAME=FOLDER, or FOLDER alone",
    "evaluate sheet clips": "give the prompts of the clips",
    "evaluate sheet nowhere --prompt star": "there is no folder nowhere",
    "evaluate sheet clips --prompt star -o sheet.gif": "-o must name a .png",
    "evaluate sheet clips --prompt star --columns 0": "--columns must be from 1 to 100, not 0",
    "evaluate cost nowhere": "there is no folder nowhere",
    "evaluate cost --models best": "there is no video model 'best' to compare: choose from",
    "evaluate cost --frames 33": "AnimateDiff's motion U-Net takes 32 frames at most, not 33",
    "evaluate cost --steps 1": "must lie between 2 and 1000",
    "evaluate cost --device tpu": "the device 'tpu' cannot be used",
    "evaluate train-extractors -o recipe.yaml": "recipe.yaml is no folder: choose another path",
    "init -o new": "give either --base",
    "init --base nowhere -o new": "there is no folder nowhere",
    "init --base other -o new": "holds a FluxPipeline, whose denoiser is a transformer",
    "init --base controlled -o new": "save its parts as one of these",
    "generate star --model halved": "halved has no folder vae, which its model_index.json names: copy or download it",
    "init --base pixels -o new": "pixels holds a IFPipeline, whose U-Net works on pixels, without an autoencoder; ",
    "init --base halved/model_index.json -o new": "name the one with its model_index.json",
    "convert clips -o new": "latentshift init --base clips -o DIR makes a video model of a folder",
    "init --base bundled --variant nope -o new": "has no weights of the variant 'nope'",
    "init --base bundled --frames 100001 -o new": "--frames must be from 1 to 100,000, not 100,001",
    "init --base bundled --fps 0 -o new": "--fps must be from 1 to 10,000, not 0",
    "init --family sd9 -o new": "unknown family 'sd9'",
    "init --base bundled --lora nowhere.safetensors -o new": "there is no file nowhere.safetensors",
    "init --base bundled --lora wide.safetensors -o new": "wide.safetensors is a LoRA of another model than this one",
    "init --base bundled --lora style.ckpt -o new": "style.ckpt is a pickle",
    "init --base bundled --other-base -o new": "--other-base is of --delta: name the file",
    "init --base bundled --delta delta.safetensors --fold 4 -o new": "--fold has no effect: a LoRA or delta brings",
    "init --base bundled --delta delta.safetensors --keep-image -o new": "--keep-image has no effect",
    "init --family sd1 --random-weights --lora wide.safetensors -o new": "--random-weights has none",
    "init --family sd1 --fold 1 -o new": "fold must be",
    "init --family sd1 --place norm1 -o new": "place must be one of",
    "init --family sd1 --place block --fold 2 -o new": "fold must be 3 or more where its place is",
    "init --family sd1 --blocks mid -o new": "blocks must be one of",
    "init --family sd1 --method flow -o new": "unknown method 'flow'",
    "init --family sd1 --dtype int4 -o new": "unknown dtype 'int4'",
    "init --family sd1 -o clips": "clips exists already",
    "convert nothing.ckpt -o new": "there is no file nothing.ckpt",
    "convert recipe.yaml --family sd9 -o new": "unknown family 'sd9'",
    "convert recipe.yaml -o new": "recipe.yaml is damaged or no checkpoint: it begins like neither",
    "convert cut.safetensors -o new": "cut.safetensors can't be read as safetensors",
    "convert flux.safetensors -o new": "these are the tensors of a transformer (Flux)",
    "convert foreign.safetensors -o new": "foreign.safetensors: these are not all tensors of a known image model",
    "export --to tflite -o new": "unknown target 'tflite': choose from onnx, openvino, aot, diffusers",
    "export nowhere --to onnx -o new": "there is no folder nowhere",
    "export --to onnx -o clips": "clips exists already",
    "export --to diffusers -o clips": "clips exists already",
    "export --to diffusers -o new --frames 8": "--frames has no effect with --to diffusers",
    "export --to diffusers -o new --size 64": "--size has no effect with --to diffusers",
    "export attending --to diffusers -o new": "and not Latent-VDM's temporal attention, which attending has",
    "export --to onnx -o new --frames 0": "--frames must be from 1 to 100,000, not 0",
    "export --to onnx -o new --size 60": "--size must be multiples of 8 and 32 or more for this model, not 60x60",
    "export --to onnx -o new --variant nope": "has no weights of the variant 'nope'",
    "export --to aot -o new --lora cut.safetensors": "cut.safetensors can't be read as safetensors",
    "export attending --to aot -o new": "and not Latent-VDM's temporal attention, which attending has",
    "generate star --speed faster": "unknown --speed 'faster': choose from exact, fast",
    "generate star --speed exact --runtime aot": "--speed has no effect with --runtime aot: it is for PyTorch",
    "generate star --runtime tflite": "unknown runtime 'tflite': choose from torch, onnx, openvino, aot",
    "generate star --runtime aot": "--runtime aot needs --model DIR, an export",
    "generate star --runtime aot --model clips": "clips is no export: it has no export.json",
    "generate star --runtime aot --model nowhere": "there is no folder nowhere",
    "generate star --runtime aot --lora delta.safetensors": "--lora has no effect with --runtime aot: export the model",
    "generate star --runtime aot --model unwritten": "unwritten/export.json is no export of latentshift-export/1: ",
    "generate star --runtime aot --model outdated": "outdated is machine code for torch 1.0, and torch ",
    "generate star --runtime aot --model mixed": "the export mixed holds tokenizer.py, which is not among the files",
    "generate star --runtime onnx --model exported": "exported is an export for aot, and not for onnx: use --",
    "generate star --runtime aot --model exported --frames 8": "--frames is 8, and this export makes videos of 16",
    "generate star --runtime aot --model exported --size 32": "--size is 32x32 pixels, and this export makes frames of",
    "generate star --model exported": "exported holds no diffusers pipeline: it is an export, which latentshift",
    "bench controlnet nowhere": "there is no folder nowhere",
    "bench controlnet clips": "clips is no ControlNet: it has no config.json",
    "train nothing.yaml": "cannot read the recipe nothing.yaml",
    "train recipe.yaml steps=many": "steps: must be a whole number",
    "train recipe.yaml optimizer.learning_rat=1": "unknown setting",
    "train recipe.yaml shift.fold=1": "fold must be",
    "train recipe.yaml shift.place=norm1": "place must be one of",
    "train recipe.yaml model=nowhere": "there is no folder nowhere",
    "train recipe.yaml variant=nope": "has no weights of the variant 'nope'",
    "train recipe.yaml size=60": "size must be a multiple of 32",
    "train recipe.yaml data=nowhere": "nowhere is no folder",
    "train recipe.yaml": "clips holds no video or image with a caption; ",
    "train recipe.yaml data=stills": "stills holds no clips; it has images, and image_share is 0 (1)",
    "train recipe.yaml data=sprites validation.data=stills": "stills holds no clips; it has images, and validation is",
    "train image.yaml": "clips holds no video or image with a caption; ",
    "train autoencoder.yaml data=clips": "clips holds no video or image",
    "data encode clips -o shards": "clips holds no video or image with a caption; ",
    "train recipe.yaml validation.data=nowhere": "nowhere is no folder",
    "train autoencoder.yaml data=nowhere": "nowhere is no folder",
    "train image.yaml tokenizer=nowhere": "there is no folder nowhere",
    "train image.yaml text_encoder=nowhere": "there is no folder nowhere",
    "train image.yaml train_text_encoder=false": "a new text encoder knows nothing",
    "train recipe.yaml compute.device=tpu": "the device 'tpu' cannot be used",
    "train recipe.yaml --processes 2": "--processes and --memory need --dry-run",
    "data inspect nowhere": "nowhere",
    "data inspect clips --short cut": "--short must be one of",
    "data inspect clips --html stills": "stills is an existing folder: name a file",
    "data inspect clips --json stills": "stills is an existing folder: name a file",
    "data inspect clips --memory-limit nan": "--memory-limit must be a number of GiB, 0.25 or more, not nan",
    "data split clips -o rows.csv": "-o must name a .jsonl file",
    "data split clips -o rows.jsonl --shortest 0": "the shortest row must last a finite number of seconds above 0",
    "data split clips -o rows.jsonl --shortest 9": "the longest row must last twice as long as the shortest or more",
    "data split clips -o rows.jsonl --threshold nan": "--threshold must be from 0 to 255, not nan",
    "data encode nowhere -o shards": "nowhere",
    "data encode clips -o shards --model nowhere": "there is no folder nowhere",
    "data encode sprites -o shards --variant nope": "has no weights of the variant 'nope'",
    "data encode clips -o shards --seconds 0": "seconds must be a finite number above 0, the duration of a window",
    "data encode clips -o shards --size 2": "frames are 8 pixels or more",
    "data encode sprites -o shards --size 63": "--size must be a multiple of 32 for this model, not 63",
    "data encode clips -o shards --seed -1": "'--seed': Input should be greater than or equal",
    "data encode clips -o shards --views 0": "views and clips a shard are 1 or more",
    "data encode clips -o shards --engine cloud": "--engine must be one of",
    "data encode clips -o shards --engine ray --rank-timeout 9": "leave it out with --engine ray",
    "evaluate folder clips --engine ray --rank-timeout 9": "leave it out with --engine ray",
    "evaluate sprites --engine ray --rank-timeout 9": "leave it out with --engine ray",
    "evaluate msrvtt clips --engine ray --rank-timeout 9": "leave it out with --engine ray",
    "data encode clips -o shards --device tpu": "the device 'tpu' cannot be used",
    "bench memory nothing.yaml": "cannot read the recipe nothing.yaml",
    "bench generate nowhere": "there is no folder nowhere",
    "bench generate --steps 0": "--steps must lie between 2 and 1000, not 0",
    "bench generate --rounds 0": "--rounds must be 1 or more, not 0",
    "bench generate --runtimes onnx --device cuda": "--runtimes onnx runs on the CPU, and not on cuda: add",
    "bench generate --runtimes tflite": "there is no runtime 'tflite' to compare: choose from onnx, openvino, none",
    "bench length nowhere": "there is no folder nowhere",
    "bench captions nowhere": "there is no folder nowhere",
    "bench captions owner/name": "bench captions is for models of the sprites world, and owner/name is no folder",
    "bench captions --exchange size": "--exchange must be one of motion, colour, thing, background, not 'size'",
    "bench captions --motions spinning,falling": "--motions must be of moving left, moving right, moving up, ",
    "bench captions --motions ,": "spinning, standing still, not none",
    "bench captions --clips 1": "Invalid value for '--clips': Input should be greater than or equal to 2",
    "bench speed nowhere": "there is no folder nowhere",
    "bench sampling nowhere": "there is no folder nowhere",
    "bench sampling --way deep-cache": "'deep-cache' in --way 'deep-cache' is none of sampler=…, steps=…",
    "bench sampling --way steps=1": '--steps must lie between 2 and 1000, not 1 (--way "steps=1")',
    "bench sampling --videos 100001": "Invalid value for '--videos': Input should be less than or equal to 100000",
    "bench sampling --guidance 1": "guidance-interval has no effect with --guidance 1: leave one of them out",
    "bench sampling --exact clips": "--exact: clips holds no study of evaluate sprites: it has no settings.json",
    "bench length --frames 16,0": "--frames must be numbers from 1 to 100,000 with commas, as 16,64,256, not '16,0'",
    "bench length --frame-chunk 0": "--frame-chunk must be a whole number from 1 to the video's 1024 frames, not 0",
    "bench length --paddings zeros,none": "there is no padding 'none': choose from zeros, circular, replicate",
    "bench length --rounds 0": "--rounds must be 1 or more, not 0",
    "bench length attending": "bench length is for the temporal shift",
    "bench ladder recipe.yaml stage=image": "is required",
    "bench memory recipe.yaml model=nowhere": "there is no folder nowhere",
    "bench generate --frames 1000000": "--frames must be from 1 to 100,000, not 1,000,000",
    "bench ladder recipe.yaml data=sprites model=image-stage --steps 0": "--steps must lie between 2 and 1000, not 0",
    "bench ladder recipe.yaml data=sprites model=image-stage --sampler best": "unknown sampler 'best'",
    "bench ladder recipe.yaml data=sprites": "bundled is a video model (latent-shift) already, and all rungs have to",
    "bench ladder recipe.yaml data=nowhere": "nowhere is no folder",
    "bench ladder recipe.yaml --rungs best": "there is no rung 'best'",
    "reproduce --seeds 0": "Invalid value for '--seeds': Input should be greater than or equal to 1",
    "reproduce --claims 1,7": "there is no claim '7'; choose from 1, 2, 3",
    "reproduce --videos 1": "--videos must be 2 or more for claim 1, which compares distances",
    "reproduce --claims 4 --settings size": "--settings: there is no setting 'size'; choose from padding, noise, fold,",
    "reproduce --settings fold": "--settings is of claim 4: add it to --claims, or leave --settings out",
    "reproduce": "there are no recipes/sprites-image.yaml and recipes/sprites-video.yaml here",
    "reproduce recipe.yaml model=nowhere": "there is no folder nowhere",
    "reproduce --steps 0": "--steps must lie between 1 and 1000, not 0",
    "reproduce --sampler best": "unknown sampler 'best'",
    "reproduce --sampler tcd": "this command adds no LoRA to a model",
    "reproduce recipe.yaml data=sprites": "bundled is a video model (latent-shift) already, and all rungs have to",
    "reproduce recipe.yaml --dtype int4": "unknown dtype 'int4'",
    "study make clips --prompts nothing.txt -o new": "cannot read the prompts file nothing.txt",
    "study make clips other/../clips --prompts prompts.txt -o new": "2 systems are called clips: name them otherwise",
    "study make clips --prompts prompts.txt -o new": "a study compares two systems or more, not 1",
    "study make a=clips b=nowhere --prompts prompts.txt -o new": "the folder clips holds no clips",
    "study make a=nowhere b=clips --prompts prompts.txt -o new": "there is no folder nowhere",
    "study make a=clips b=other --prompts prompts.txt -o new --raters 0": "a comparison needs 1 to 1,000 raters, not 0",
    "study make a=clips b=other --prompts prompts.txt -o new --lease 0": "--lease must be a number of minutes above 0",
    "study make a=clips b=other --prompts prompts.txt -o new --broken 3": "has 0 to 2 broken attention checks, not 3",
    "study make a=clips b=other --prompts prompts.txt -o new --question motion": "--question must be NAME=TEXT",
    "study make a=clips b=other --prompts prompts.txt -o other": "other exists already",
    "study serve clips": "clips holds no study: make one with latentshift study make",
    "study serve clips --port 99999": "Invalid value for '--port': Input should be less than or equal to 65535",
    "study serve clips --url ftp://here": "--url must be an address such as",
    "study invite nowhere --raters 2": "nowhere holds no study",
    "study result clips": "clips holds no study",
    "push bundled boats": "a repository of the hub is named OWNER/NAME, not 'boats'",
    "push nowhere me/boats": "there is no folder nowhere",
    "push someone/boats me/boats": "someone/boats is no folder on this machine: only those are pushed",
    "push bundled me/boats --picture nothing.png": "there is no file nothing.png",
    "push bundled me/boats --report clips": "is the card that is sent, and a report would not stand in it",
    "paint star": "No such command",
}

_GRAPH = {"inputs": ["x"], "outputs": ["y"], "differences": {}}
AN_EXPORT = {
    "target": "aot",
    "versions": {"torch": version("torch")},
    "frames": 16,
    "height": 64,
    "width": 64,
    "latent_channels": 8,
    "scale": 8,
    "tokens": 77,
    "has_sizes": False,
    "is_distilled": False,
    "tokenizers": ["tokenizer"],
    "settings": {"num_frames": 16, "fps": 8, "guidance_scale": 1.5, "noise_share": 0.0, "shift": None}
    | {"force_zeros_for_empty_prompt": False},
    "parts": {name: {"file": f"{name}.pt2", **_GRAPH} for name in ("unet", "decoder", "text_encoder")},
    "source": {"model": None, "files": {}, "fingerprints": {}},
    "files": {f"{name}.pt2": 64 * "0" for name in ("unet", "decoder", "text_encoder")}
    | dict.fromkeys(("scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"), 64 * "0"),
}

_RUN = """
import contextlib, io, json, shlex, sys
heavy, commands = json.loads(sys.argv[1]), json.loads(sys.argv[2])
from latentshift.cli import main
ended = {}
for command in commands:
    sys.argv = ["latentshift", *shlex.split(command)]
    before, errors, code = set(sys.modules), io.StringIO(), 0
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as end:
            code = end.code
    ended[command] = [code, errors.getvalue(), [name for name in heavy if name in sys.modules and name not in before]]
print(json.dumps(ended))
"""


def run(commands: list[str], folder: Path) -> dict[str, tuple[int, str, list[str]]]:
    words = [sys.executable, "-c", _RUN, json.dumps(HEAVY), json.dumps(commands)]
    result = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, list[str]]]:
    folder = tmp_path_factory.mktemp("startup")
    (folder / "clips").mkdir()
    (folder / "clips" / "note.txt").write_text("no clip")
    (folder / "prompts.txt").write_text("a star")
    (folder / "stills").mkdir()
    (folder / "stills" / "a.txt").write_text("a star")
    (folder / "stills" / "a.png").touch()
    for name, mode in (("frame", "RGB"), ("clear", "RGBA")):
        Image.new(mode, (64, 64)).save(folder / f"{name}.png")
    (folder / "cut.safetensors").write_bytes(b"\xff\x00\x00\x00\x00\x00\x00\x00{")
    save_file({"a": np.zeros(1)}, folder / "foreign.safetensors")
    save_file({"model.diffusion_model.double_blocks.0.a": np.zeros(1)}, folder / "flux.safetensors")
    delta = {"settings": {"num_frames": 2, "prediction_type": "epsilon", "shift": None}, "temporal": None, "base": "b"}
    metadata = {"latentshift": json.dumps({"kind": "delta", **delta})}
    save_file({"a": np.zeros(1)}, folder / "delta.safetensors", metadata=metadata)
    for name in ("style.ckpt", "named-otherwise.safetensors"):
        (folder / name).write_bytes(b"PK\x03\x04 what torch.save writes")
    cross = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    for name, prefix, (down, up), widths in (
        ("wide", f"unet.{cross}", ("lora_A", "lora_B"), (2048, 160, 4)),
        ("sdxl", "lora_unet_down_blocks_9_conv", ("lora_down", "lora_up"), (8, 8, 4)),
        ("two", "lora_te2_text_model_encoder_layers_0_mlp_fc1", ("lora_down", "lora_up"), (8, 8, 4)),
        (
            "original",
            f"lora_unet_input_blocks_4_1_{cross[27:].replace('.', '_')}",
            ("lora_down", "lora_up"),
            (2048, 9, 4),
        ),
        ("ranks", "lora_unet_conv_in", ("lora_down", "lora_up"), (8, 8, 5)),
        ("peft", f"base_model.model.{cross}", ("lora_A", "lora_B"), (128, 160, 4)),
    ):
        factors = {down: np.zeros((4, widths[0])), up: np.zeros((widths[1], widths[2]))}
        save_file({f"{prefix}.{key}.weight": value for key, value in factors.items()}, folder / f"{name}.safetensors")
    save_file({"lora_unet_conv_in.lokr_w1": np.zeros(1)}, folder / "lokr.safetensors")
    (folder / "other").mkdir()
    index = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}
    (folder / "other" / "model_index.json").write_text(json.dumps(index))
    index = {"_class_name": "StableDiffusionControlNetPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (folder / "pixels").mkdir()
    (folder / "pixels" / "model_index.json").write_text(
        json.dumps({**index, "_class_name": "IFPipeline", "transformer": [None, None]})
    )
    (folder / "halved" / "unet").mkdir(parents=True)
    parts = {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    (folder / "halved" / "model_index.json").write_text(json.dumps({"_class_name": "LatentShiftPipeline", **parts}))
    (folder / "controlled").mkdir()
    (folder / "controlled" / "model_index.json").write_text(json.dumps(index))
    for name, frames in (("piped", "16"), ("worded", '"sixteen"')):
        (folder / name / "unet").mkdir(parents=True)
        index = f'{{"_class_name": "LatentShiftPipeline", "num_frames": {frames}}}'
        (folder / name / "model_index.json").write_text(index)
    bundled = Path(settings.__file__).with_name("bundled_model")
    for part, changes in (("unet", {"in_channels": 9}), ("vae", {})):
        config = json.loads((bundled / part / "config.json").read_text())
        (folder / "inpainting" / part).mkdir(parents=True)
        (folder / "inpainting" / part / "config.json").write_text(json.dumps({**config, **changes}))
    shutil.copy(bundled / "model_index.json", folder / "inpainting")
    index = json.loads((bundled / "model_index.json").read_text())
    schedule = json.loads((bundled / "scheduler" / "scheduler_config.json").read_text())
    for name, scheduler, changes in (
        ("rescheduled", index["scheduler"], {"schedule_shift": 2.0}),
        ("foreign-sampler", ["diffusers", "FlowMatchEulerDiscreteScheduler"], {}),
    ):
        (folder / name / "scheduler").mkdir(parents=True)
        (folder / name / "model_index.json").write_text(json.dumps({**index, "scheduler": scheduler}))
        (folder / name / "scheduler" / "scheduler_config.json").write_text(json.dumps({**schedule, **changes}))
    shutil.copytree(bundled, folder / "attending", ignore=shutil.ignore_patterns("*.safetensors"))
    index["temporal"] = ["latentshift.models.latent_vdm", "TemporalAttention"]
    (folder / "attending" / "model_index.json").write_text(json.dumps(index))
    (folder / "attending" / "temporal").mkdir()
    os.mkfifo(folder / "piped" / "unet" / "config.json")
    (folder / "wrong").mkdir()
    (folder / "wrong" / "report.json").write_text("{}")
    shutil.copytree(bundled, folder / "image-stage", ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "image-stage" / "model_index.json").write_text(
        json.dumps({**index, "shift": None, "temporal": [None, None]})
    )
    (folder / "unwritten").mkdir()
    (folder / "unwritten" / "export.json").write_text("{}")
    (folder / "exported").mkdir()
    (folder / "exported" / "export.json").write_text(json.dumps(AN_EXPORT))
    for name, changes in (("outdated", {"versions": {"torch": "1.0"}}), ("mixed", {})):
        (folder / name).mkdir()
        (folder / name / "export.json").write_text(json.dumps({**AN_EXPORT, **changes}))
    (folder / "mixed" / "tokenizer.py").touch()
    (folder / "unindexed").mkdir()
    os.mkfifo(folder / "unindexed" / "model_index.json")
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "autoencoder.yaml").write_text("stage: autoencoder\noutput: run\nsteps: 400\nbatch_size: 1\n")
    image = "stage: image\nautoencoder: run\noutput: image\nsteps: 400\nbatch_size: 1\ndata: clips\n"
    (folder / "image.yaml").write_text(image)
    return run(list(MISTAKES), folder)


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_refused_in_a_sentence_before_anything_heavy_is_imported(
    command: str, ended: dict[str, tuple[int, str, list[str]]]
) -> None:
    code, errors, imported = ended[command]
    assert code in (1, 2) and "Traceback" not in errors, errors
    assert MISTAKES[command] in errors, errors
    assert not imported


@pytest.mark.parametrize("words", ["--help", "--version", "generate --help", "train --help", "data encode --help"])
def test_help_imports_nothing_heavy(words: str, tmp_path: Path) -> None:
    ((code, _, imported),) = run([words], tmp_path).values()
    assert code == 0 and not imported


def test_the_package_and_what_its_settings_need_import_nothing_heavy() -> None:
    code = (
        "import sys; import latentshift, latentshift.settings, latentshift.training.recipe, latentshift.data.sources\n"
    )
    code += f"print([name for name in {HEAVY!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_names_checked_before_torch_match_the_real_ones() -> None:
    assert tuple(FAMILIES) == settings.FAMILIES
    assert {family.pipeline for family in FAMILIES.values()} | {"LatentShiftPipeline"} == set(settings.PIPELINES)
    renamed = {theirs: ours for family in FAMILIES.values() for ours, theirs in family.parts.items() if ours != theirs}
    assert renamed == OUR_NAMES
    annotation = str(VideoRecipe.model_fields["method"].annotation)
    assert all(repr(method) in annotation for method in settings.METHODS)
