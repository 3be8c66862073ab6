"""FLIP: how visible the difference of two images is to a person who switches between them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.images.srgb import srgb_decode

PIXELS_PER_DEGREE = 0.7 * 3840 / 0.7 * math.pi / 180  # a display of 3840 px and 0.7 m, seen from 0.7 m
WHITE = (0.950428545, 1.0, 1.088900371)  # XYZ of linear sRGB white
XYZ_OF_RGB = (
    (10135552 / 24577794, 8788810 / 24577794, 4435075 / 24577794),
    (2613072 / 12288897, 8788810 / 12288897, 887015 / 12288897),
    (1425312 / 73733382, 8788810 / 73733382, 70074185 / 73733382),
)
# Contrast sensitivity per channel of YCxCz: heights and widths of two Gaussians, a1 b1 a2 b2.
SENSITIVITY = ((1.0, 0.0047, 0.0, 1e-5), (1.0, 0.0053, 0.0, 1e-5), (34.1, 0.04, 13.5, 0.025))
FEATURE_WIDTH = 0.082  # degrees, of the edges and points that the eye detects
COLOUR_EXPONENT, FEATURE_EXPONENT = 0.7, 0.5
# Colour differences up to this share of the largest make up this share of the errors.
KNEE, KNEE_ERROR = 0.4, 0.95
BLOCK = 64  # pixels that one product with a band matrix filters


def flip_map(image: Tensor, target: Tensor) -> Tensor:
    """Return FLIP [B, 1, H, W], 0 where no difference is seen and 1 at most, of sRGB images [B, 3, H, W] in [0, 1].

    Args: target: [B, 3, H, W], or [1, 3, H, W] for all of them.

    Seen at 67 pixels per degree, the default of the authors' program. Border pixels are repeated outwards.

    **Source** Andersson, Nilsson, Akenine-Möller, Oskarsson, Åström, Fairchild 2020.
    """
    sizes = [len(image), len(target)]
    both = _opponent(srgb_decode(torch.cat((image, target))))
    colour = _colour_difference(*_perceived(both).split(sizes))
    feature = _feature_difference(*(both[:, :1] + 16).div(116).split(sizes))
    return colour ** (1 - feature)


def flip(image: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean FLIP [B] of images [B, 3, H, W] in [0, 1], see `flip_map`.

    Args: mask: [B, 1, H, W], the weight of each pixel; None counts all of them alike.
    """
    error = flip_map(image, target)
    if mask is None:
        return error.mean((1, 2, 3))
    return (error * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp_min(1e-9)


def _perceived(opponent: Tensor) -> Tensor:
    """Return Hunt-adjusted L*a*b* [B, 3, H, W] of what the eye resolves of YCxCz [B, 3, H, W]."""
    widest = max(max(b1, b2) for _, b1, _, b2 in SENSITIVITY)
    radius = math.ceil(3 * math.sqrt(widest / (2 * math.pi**2)) * PIXELS_PER_DEGREE)
    degrees = _offsets(radius, opponent) / PIXELS_PER_DEGREE
    channels = []
    for channel, (a1, b1, a2, b2) in zip(opponent.split(1, 1), SENSITIVITY, strict=True):
        filtered, total = torch.zeros_like(channel), 0.0
        for height, width in ((a1, b1), (a2, b2)):
            if height == 0:
                continue
            taps = torch.exp(-(math.pi**2) * degrees.square() / width)
            share = height * math.sqrt(math.pi / width) * float(taps.sum()) ** 2
            taps /= taps.sum()
            filtered += share * _filter(channel, taps, taps)
            total += share
        channels.append(filtered / total)
    return _hunt_lab(_rgb_of_opponent(torch.cat(channels, 1)).clamp(0, 1))


def _colour_difference(image: Tensor, target: Tensor) -> Tensor:
    """Return the colour difference [B, 1, H, W] in [0, 1] of adjusted L*a*b* images [B, 3, H, W]."""
    primaries = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).to(image)[:, :, None, None]
    green, blue = _hunt_lab(primaries).split(1)
    largest = _hyab(green, blue) ** COLOUR_EXPONENT
    difference, knee = _hyab(image, target) ** COLOUR_EXPONENT, KNEE * largest
    above = KNEE_ERROR + (difference - knee) / (largest - knee) * (1 - KNEE_ERROR)
    return torch.where(difference < knee, KNEE_ERROR / knee * difference, above)


def _hyab(image: Tensor, target: Tensor) -> Tensor:
    difference = image - target
    return difference[:, :1].abs() + difference[:, 1:].square().sum(1, keepdim=True).sqrt()


def _feature_difference(image: Tensor, target: Tensor) -> Tensor:
    """Return how much edges and points of grey images [B, 1, H, W] differ, [B, 1, H, W] in [0, 1]."""
    deviation = 0.5 * FEATURE_WIDTH * PIXELS_PER_DEGREE
    offsets = _offsets(math.ceil(3 * deviation), image)
    smooth = torch.exp(-offsets.square() / (2 * deviation**2))
    slope, bend = -offsets * smooth, ((offsets / deviation).square() - 1) * smooth
    sizes, both, strength = [len(image), len(target)], torch.cat((image, target)), []
    for taps in (slope, bend):
        taps = torch.where(taps < 0, taps / -taps.clamp_max(0).sum(), taps / taps.clamp_min(0).sum())
        across = _filter(both, taps, smooth / smooth.sum()), _filter(both, smooth / smooth.sum(), taps)
        first, second = torch.hypot(*across).split(sizes)
        strength.append((first - second).abs())
    return (torch.maximum(*strength) / math.sqrt(2)) ** FEATURE_EXPONENT


def _filter(image: Tensor, along_rows: Tensor, along_columns: Tensor) -> Tensor:
    """Return images [B, 1, H, W] filtered by a product of two filters of odd length."""
    rows = _filter_rows(image, along_rows)
    return _filter_rows(rows.transpose(2, 3), along_columns).transpose(2, 3)


def _filter_rows(image: Tensor, taps: Tensor) -> Tensor:
    """Return images [B, 1, H, W] filtered along their rows, in blocks: a product of matrices is fastest on a CPU."""
    width, radius = image.shape[3], len(taps) // 2
    blocks = -(-width // BLOCK)
    padded = F.pad(image, (radius, radius + blocks * BLOCK - width, 0, 0), mode="replicate")
    row, column = torch.meshgrid(torch.arange(BLOCK + 2 * radius), torch.arange(BLOCK), indexing="ij")
    tap = (row - column).to(taps.device)
    inside = (tap >= 0) & (tap <= 2 * radius)
    band = torch.where(inside, taps[tap.clamp(0, 2 * radius)], 0)
    return (padded.unfold(3, BLOCK + 2 * radius, BLOCK) @ band).flatten(3)[..., :width]


def _offsets(radius: int, like: Tensor) -> Tensor:
    return torch.arange(-radius, radius + 1, dtype=like.dtype, device=like.device)


def _relative_xyz(light: Tensor) -> Tensor:
    """Return XYZ, relative to white, of linear sRGB [B, 3, H, W]."""
    matrix = torch.tensor(XYZ_OF_RGB, dtype=torch.float64) / torch.tensor(WHITE, dtype=torch.float64)[:, None]
    return torch.einsum("ij,bjhw->bihw", matrix.to(light), light)


def _opponent(light: Tensor) -> Tensor:
    """Return YCxCz [B, 3, H, W], the linear version of L*a*b*, of linear sRGB [B, 3, H, W]."""
    x, y, z = _relative_xyz(light).split(1, 1)
    return torch.cat((116 * y - 16, 500 * (x - y), 200 * (y - z)), 1)


def _rgb_of_opponent(opponent: Tensor) -> Tensor:
    """Return linear sRGB [B, 3, H, W] of YCxCz [B, 3, H, W]."""
    y = (opponent[:, :1] + 16) / 116
    xyz = torch.cat((y + opponent[:, 1:2] / 500, y, y - opponent[:, 2:] / 200), 1)
    matrix = torch.tensor(XYZ_OF_RGB, dtype=torch.float64) / torch.tensor(WHITE, dtype=torch.float64)[:, None]
    return torch.einsum("ij,bjhw->bihw", torch.linalg.inv(matrix).to(xyz), xyz)


def _hunt_lab(light: Tensor) -> Tensor:
    """Return L*a*b* [B, 3, H, W] of linear sRGB, its colours paler where it is dark, as Hunt observed."""
    relative, corner = _relative_xyz(light), 6 / 29
    root = torch.where(
        relative > corner**3, relative.clamp_min(corner**3) ** (1 / 3), relative / (3 * corner**2) + 4 / 29
    )
    x, y, z = root.split(1, 1)
    lightness = 116 * y - 16
    return torch.cat((lightness, 0.01 * lightness * 500 * (x - y), 0.01 * lightness * 200 * (y - z)), 1)
