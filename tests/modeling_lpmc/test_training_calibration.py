"""The calibrated start of the convolutions."""

from __future__ import annotations

import torch

from modeling_lpmc import LpmcConfig
from modeling_lpmc.layers_lpmc import LpmcConvStem
from modeling_lpmc.training.calibration import calibrate_convolutions


def clips(number: int) -> torch.Tensor:
    """Features (number, 8, 128) in dB with the offsets and spread of real ones."""
    torch.manual_seed(0)
    spectra = -40 + 15 * torch.randn(number, 8, 1)
    return spectra + 6 * torch.randn(number, 8, 128) + torch.linspace(20, -20, 8)[None, :, None]


def test_calibrated_convolutions_tell_clips_apart_from_the_first_update() -> None:
    torch.manual_seed(0)
    stem = LpmcConvStem(LpmcConfig(d_model=16, num_mel_bins=8, num_conv_layers=6, max_source_frames=32))
    for convolution in [stem.conv1, *stem.conv_stack]:
        convolution.reset_parameters()
    features = clips(32)

    def distance() -> float:
        """How far the means of the clips lie apart in the stem's output, of which the positions are no part."""
        with torch.no_grad():
            return float(stem(features).mean(1).std(0).mean())

    assert distance() < 0.1
    calibrate_convolutions(stem, features)
    assert distance() > 0.2
    hidden = stem.conv1(features)
    assert torch.allclose(hidden.mean((0, 2)), torch.zeros(16), atol=1e-3)
    assert torch.allclose(hidden.std((0, 2)), torch.ones(16), atol=1e-3)


def test_a_silent_mel_band_does_no_harm() -> None:
    stem = LpmcConvStem(LpmcConfig(d_model=16, num_mel_bins=8, num_conv_layers=3, max_source_frames=32))
    features = clips(8)
    features[:, 3] = -100.0
    calibrate_convolutions(stem, features)
    assert torch.isfinite(stem(features)).all()
