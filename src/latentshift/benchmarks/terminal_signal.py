"""How much of a clip shows through the noisiest timestep, by the standard deviation of its latents.

At the last timestep T a sampler starts from pure noise, and training shows the network what is left of a clip there. An
ideal observer who sees u_T and knows the clip tells it from the same clip run backwards with probability Φ(d/2),
d² = SNR_T ‖u_0 - reversed u_0‖². Where that is near 1, a network can read the motion off its input while it is trained
and never needs the words; in sampling there is nothing to read. A clip that stands still is the same backwards (1/2).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from latentshift.benchmarks.report import Result
from latentshift.data.sprites import Sprites
from latentshift.diffusion.noise import signal_to_noise
from latentshift.models.autoencoder import encode_moments
from latentshift.models.storage.model_paths import bundled_model
from latentshift.pipeline import LatentShiftPipeline
from latentshift.video import to_unit

CLIPS, QUICK_CLIPS = 256, 16
_LATENT_STDS = (1.0, 0.5, 0.25, 0.125)


@torch.no_grad()
def bench_terminal_signal(quick: bool = False) -> Iterator[Result]:
    """One row for each standard deviation of the latents, the bundled model's own last."""
    pipeline = LatentShiftPipeline.from_pretrained(bundled_model())
    clips = Sprites(size=pipeline.sample_size)
    latents = []
    for index in range(QUICK_CLIPS if quick else CLIPS):
        frames = to_unit(torch.from_numpy(clips[index][0]).permute(0, 3, 1, 2))
        latents.append(encode_moments(pipeline.vae, frames).chunk(2, dim=1)[0])
    videos = torch.stack(latents)  # (CLIPS, F, C, h, w)
    unit = videos / videos.std()
    energy = (unit - unit.flip(1)).square().flatten(1).sum(dim=1)
    schedule = pipeline.scheduler
    snr = signal_to_noise(schedule, torch.tensor([schedule.config.num_train_timesteps - 1]))
    own = float(videos.std()) * pipeline.vae.config.scaling_factor
    for std in (*_LATENT_STDS, own):
        probability = torch.special.ndtr((snr * std**2 * energy).sqrt() / 2)
        yield {
            "latents": "of the bundled model" if std == own else "",
            "latent_std": std,
            "terminal_snr": float(snr),
            "discrimination_accuracy": float(probability.mean()),
        }
