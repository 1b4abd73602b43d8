# SPDX-License-Identifier: Apache-2.0
"""Augmentation of a batch of images on the device: crop, flip, warp, colour, erasing, CutMix.

Images are normalised floats `[N, 3, 32, 32]`; zero is the mean colour. All random numbers come from
one generator, so that a run can be repeated.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["bend", "crop_and_flip", "cut_mix", "erase", "recolour", "warp"]


def _random(generator: torch.Generator, *size: int) -> Tensor:
    return torch.rand(size, generator=generator, device=generator.device)


def _boxes(generator: torch.Generator, count: int, size: int, sides: Tensor) -> Tensor:
    """Masks `[count, 1, size, size]` of boxes with the given heights and widths `[2, count]`."""
    centres = _random(generator, 2, count) * size
    grid = torch.arange(size, device=generator.device) + 0.5
    inside = (grid - centres[..., None]).abs() < sides[..., None] / 2
    return inside[0][:, None, :, None] & inside[1][:, None, None, :]


def crop_and_flip(images: Tensor, generator: torch.Generator, padding: int = 4,
                  mirrored: float = 0.5) -> Tensor:
    """Shift each image by up to `padding` pixels (zeros come in) and mirror a share of them."""
    count, _, size, _ = images.shape
    padded = F.pad(images, [padding] * 4)
    shifts = (_random(generator, 2, count) * (2 * padding + 1)).long()
    grid = torch.arange(size, device=images.device)
    rows, columns = shifts[0][:, None] + grid, shifts[1][:, None] + grid
    flipped = _random(generator, count) < mirrored
    columns = torch.where(flipped[:, None], columns.flip(1), columns)
    item = torch.arange(count, device=images.device)[:, None, None]
    chosen = padded.permute(0, 2, 3, 1)[item, rows[:, :, None], columns[:, None, :]]
    return chosen.permute(0, 3, 1, 2)


def erase(images: Tensor, generator: torch.Generator, probability: float) -> Tensor:
    """Set one box (a tenth to a third of the image) of some images to the mean colour."""
    count, size = len(images), images.shape[-1]
    area = _random(generator, count) * 0.23 + 0.1
    aspect = torch.exp((_random(generator, count) - 0.5) * 1.6)
    sides = size * torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()])
    mask = _boxes(generator, count, size, sides)
    mask &= (_random(generator, count) < probability)[:, None, None, None]
    return images.masked_fill(mask, 0)


def cut_mix(
    images: Tensor, generator: torch.Generator, probability: float
) -> tuple[Tensor, Tensor]:
    """Replace one box of some images by that of the next image in the batch.

    Returns the images and, for each, the share that is still its own.
    """
    count, size = len(images), images.shape[-1]
    side = size * (1 - _random(generator, count)).sqrt()
    mask = _boxes(generator, count, size, side.expand(2, count))
    mask &= (_random(generator, count) < probability)[:, None, None, None]
    own = 1 - mask.flatten(1).float().mean(1)
    return torch.where(mask, images.roll(1, 0), images), own


def warp(images: Tensor, generator: torch.Generator, probability: float) -> Tensor:
    """Turn (15 degrees), shear (0.2) and scale (0.85 to 1.2) some images; zeros come in."""
    count = len(images)
    angle, shear_x, shear_y, scale = _random(generator, 4, count) * 2 - 1
    angle, shear_x, shear_y = angle * (torch.pi / 12), shear_x * 0.2, shear_y * 0.2
    scale = torch.exp(scale * 0.18)
    chosen = _random(generator, count) < probability
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    matrix = torch.stack([torch.stack([cosine + sine * shear_y, cosine * shear_x - sine, zero], 1),
                          torch.stack([sine + cosine * shear_y, cosine + sine * shear_x, zero], 1)],
                         1)
    plain = torch.stack([torch.stack([one, zero, zero], 1), torch.stack([zero, one, zero], 1)], 1)
    matrix = torch.where(chosen[:, None, None], matrix, plain)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    return torch.where(chosen[:, None, None, None], moved, images)


def bend(images: Tensor, generator: torch.Generator, pixels: float, knots: int = 5) -> Tensor:
    """Bend each image smoothly: a grid of `knots` x `knots` points moves by about `pixels`."""
    count, _, size, _ = images.shape
    moves = torch.randn((count, 2, knots, knots), generator=generator, device=images.device)
    field = F.interpolate(moves * (2 * pixels / size), size=(size, size), mode="bicubic",
                          align_corners=True).permute(0, 2, 3, 1)
    still = torch.eye(2, 3, device=images.device).expand(count, 2, 3)
    grid = F.affine_grid(still, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid + field, align_corners=False)


def recolour(images: Tensor, generator: torch.Generator, probability: float) -> Tensor:
    """Change brightness, contrast and saturation of some images."""
    count = len(images)
    shift, contrast, saturation = (_random(generator, 3, count) * 2 - 1)[:, :, None, None, None]
    mean = images.mean((1, 2, 3), keepdim=True)
    changed = (images - mean) * torch.exp(0.5 * contrast) + mean + 0.5 * shift
    grey = changed.mean(1, keepdim=True)
    changed = grey + (changed - grey) * torch.exp(0.7 * saturation)
    chosen = (_random(generator, count) < probability)[:, None, None, None]
    return torch.where(chosen, changed, images)
