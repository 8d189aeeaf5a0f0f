"""The losses of the stages, in closed form, and the U-Net's levels as a recipe gives them."""

from __future__ import annotations

import torch

from latentshift.diffusion.noise import add_noise, paper_scheduler
from latentshift.models.autoencoder import build_autoencoder
from latentshift.training.losses import AutoencoderLoss, FrameBatch
from latentshift.training.models.build import build_unet
from latentshift.training.recipes.settings import UNetModel


def test_the_terms_of_the_autoencoder_s_loss_are_weighted() -> None:
    torch.manual_seed(0)
    autoencoder = build_autoencoder(channels=(8,), layers_per_block=1, latent_channels=2, norm_groups=4, size=8)
    batch = FrameBatch(torch.rand(2, 3, 8, 8) * 2 - 1, torch.randn(2, 2, 8, 8))
    posterior = autoencoder.encode(batch.frames).latent_dist
    restored = autoencoder.decode(posterior.mean + posterior.std * batch.noise).sample
    difference = restored - batch.frames
    squared = difference.square().mean()
    edges = sum((difference.roll(-1, dim) - difference).narrow(dim, 0, 7).abs().mean() for dim in (2, 3))
    divergence = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    loss = AutoencoderLoss(autoencoder, kl_weight=0.5, edge_weight=2.0, mse_weight=3.0)(batch)
    expected = difference.abs().mean() + 3 * squared + 2 * edges + 0.5 * divergence
    torch.testing.assert_close(loss["loss"], expected)
    torch.testing.assert_close(loss["psnr"], 10 * torch.log10(4 / squared))


def test_a_u_net_has_as_many_layers_at_each_level_as_its_recipe_says() -> None:
    model = UNetModel(channels=(8, 8, 16), attention=(False, True, False), layers_per_block=(1, 3, 2), norm_groups=4)
    autoencoder = build_autoencoder(channels=(8, 8), layers_per_block=1, latent_channels=2, norm_groups=4, size=16)
    unet = build_unet(model, 8, autoencoder)
    assert [len(block.resnets) for block in unet.down_blocks] == [1, 3, 2]
    assert [len(block.resnets) for block in unet.up_blocks] == [3, 4, 2]


def test_a_schedule_with_zero_terminal_snr_ends_in_noise_alone() -> None:
    scheduler = paper_scheduler("v_prediction", zero_terminal_snr=True)
    clean, noise, last = torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.tensor([999, 999])
    noisy, target = add_noise(scheduler, clean, noise, last)
    assert torch.equal(noisy, noise)
    torch.testing.assert_close(target, -clean)
    usual = paper_scheduler().alphas_cumprod.sqrt()
    scaled = scheduler.alphas_cumprod.sqrt()
    torch.testing.assert_close(scaled, (usual - usual[-1]) * usual[0] / (usual[0] - usual[-1]), rtol=1e-3, atol=1e-5)
