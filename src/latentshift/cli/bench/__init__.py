"""``latentshift bench``: speed and memory on this machine, most of it beside a peer in the same run.

Every command makes rows, which one function prints and writes (:mod:`latentshift.benchmarks.report`).
"""

from __future__ import annotations

import typer

from latentshift.cli.bench import (
    captions,
    controlnet,
    generate,
    known_frames,
    ladder,
    length,
    loops,
    memory,
    one_clip,
    sampling,
    speed,
    without_settings,
)

bench = typer.Typer(help="Measure speed, memory and what models do, on this machine.", no_args_is_help=True)
bench.command("train")(without_settings.train)
bench.command("generate")(generate.generate)
bench.command("speed")(speed.speed)
bench.command("sampling")(sampling.sampling)
bench.command("step")(without_settings.step)
bench.command("signal")(without_settings.signal)
bench.command("captions")(captions.captions)
bench.command("data")(without_settings.data)
bench.command("length")(length.length)
bench.command("loops")(loops.loops)
bench.command("startup")(without_settings.startup)
bench.command("memory")(memory.memory)
bench.command("keyframes")(known_frames.keyframes)
bench.command("extension")(known_frames.extension)
bench.command("one-clip")(one_clip.one_clip)
bench.command("controlnet")(controlnet.controlnet)
bench.command("ladder")(ladder.ladder)
bench.command("methods", hidden=True)(ladder.methods)  # the name of before
