"""Moving values between channels and places."""

from __future__ import annotations

from amity import ops
from amity.frontend.tensor import Tensor
from amity.nn.module import Module


class PixelShuffle(Module):
    """Spread groups of channels over a finer image.

    shape: x[*, C r^2, H, W] -> [*, C, H r, W r]
    source: Shi et al. 2016, arXiv:1609.05158
    """

    __constants__ = ["upscale_factor"]

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return ops.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """Gather the places of a fine image into channels.

    shape: x[*, C, H r, W r] -> [*, C r^2, H, W]
    """

    __constants__ = ["downscale_factor"]

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return ops.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """Interleave the channels of groups.

    shape: x[N, C, *] -> the same
    source: Zhang et al. 2017, arXiv:1707.01083
    """

    __constants__ = ["groups"]

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        return ops.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"
