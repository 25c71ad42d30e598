"""A start for the convolutions that lets a clip be heard from the first update on.

With PyTorch's own initial weights, as released, what tells one clip from another shrinks about threefold in each of
the six convolutions (rendered corpus, 128 channels: the clips' means lie 6.9 dB apart at the input and 0.010 after the
last layer; 0.24 with the start below), so that a model from random weights first learns the language alone. The remedy
changes no architecture, only where training starts: weights and biases are set from the training clips so that every
layer's output begins with mean 0 and deviation 1 (Salimans and Kingma 2016, section 3, without their
reparametrisation).
"""

from __future__ import annotations

import torch
from torch import nn

CALIBRATION_CLIPS = 64  # enough for a mean over 1001 frames; bounds the memory
LEAST_DEVIATION = 1e-3  # dB or units; a mel band that never changes is left as it is


@torch.no_grad()
def calibrate_convolutions(stem: nn.Module, features: torch.Tensor) -> None:
    """Set weights and biases of an `LpmcConvStem` from `features` (clips, mel, frames) in dB, layer by layer.

    The mean and deviation of each mel band are folded into the first convolution.
    """
    convolutions: list[nn.Conv1d] = [stem.conv1, *stem.conv_stack]  # type: ignore[list-item,misc]
    first = convolutions[0]
    first.weight /= features.std((0, 2)).clamp(min=LEAST_DEVIATION)[None, :, None]
    hidden = features
    for convolution in convolutions:
        output = convolution(hidden)
        mean, deviation = output.mean((0, 2)), output.std((0, 2)).clamp(min=LEAST_DEVIATION)
        convolution.weight /= deviation[:, None, None]
        assert convolution.bias is not None
        convolution.bias.copy_((convolution.bias - mean) / deviation)
        hidden = nn.functional.gelu((output - mean[None, :, None]) / deviation[None, :, None])
