# SPDX-License-Identifier: Apache-2.0
"""A photograph through the backbone on the simulated accelerator, its features into an FPN.

    python examples/fpn.py [--image PICTURE] [--preset small] [--size 64]

The backbone is a Meta-SpikeFormer with seeded weights whose neurons fire like trained ones; the
feature pyramid (Lin et al., CVPR 2017; laterals behind a neuron, as in SpikeFPN) is plain PyTorch,
with random weights too. What it shows is the way: float network -> integers -> accelerator ->
feature maps -> any PyTorch head; and that the head sees the same from accelerator and golden model.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from hw.presets import get_preset
from sw.features import feature_maps
from sw.golden.network import evaluate, quantise_images
from sw.images import InputSpec, load_images
from sw.models.meta_spikeformer import MetaSpikeFormer, MetaSpikeFormerConfig
from sw.models.seeded import steer_rates
from sw.quantise.calibrate import calibrate
from sw.quantise.quantiser import quantise
from sw.run import run

STAGES = ("ConvBlock1_2", "ConvBlock2_2", "block3", "block4")
ROOT = Path(__file__).resolve().parent.parent


class Fpn(nn.Module):
    """Feature maps `[T, C, H, W]` of the stages, finest first -> maps `[1, width, H, W]`."""

    def __init__(self, channels: list[int], width: int = 32) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.output = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels)

    def forward(self, spikes: list[Tensor]) -> list[Tensor]:
        maps = [lateral(stage).mean(0, keepdim=True)
                for lateral, stage in zip(self.lateral, spikes, strict=True)]
        for fine in range(len(maps) - 2, -1, -1):
            maps[fine] = maps[fine] + functional.interpolate(maps[fine + 1],
                                                             maps[fine].shape[-2:])
        return [output(level) for output, level in zip(self.output, maps, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path,
                        default=ROOT / "data" / "cifar10_test_256.npz")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = load_images(options.image, InputSpec(
        channels=3, height=options.size, width=options.size, mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225)), limit=1)
    image = images.pixels
    config = MetaSpikeFormerConfig(num_classes=10, stem_channels=8, embed_dims=(16, 24, 32, 40),
                                   depths=(1, 1, 1, 1, 1, 1))
    network = MetaSpikeFormer(config)
    steer_rates(network, image)
    model = quantise(network, config, calibrate(network, image), time_steps=1, name="backbone",
                     features=True)
    print(f"[fpn] {options.size}x{options.size} through {len(model.layers)} layers on "
          f"{options.preset} (the first time, its simulation is built) ...", flush=True)
    report = run(model, images, get_preset(options.preset), jobs=1)
    assert report.bit_exact
    golden = feature_maps(model, evaluate(model, quantise_images(model, image)[0]))
    made = feature_maps(model, report.images[0].features)
    fpn = Fpn([made[stage]["spikes"].shape[1] for stage in STAGES]).eval()
    with torch.no_grad():
        levels, expected = (fpn([maps[stage]["spikes"] for stage in STAGES])
                            for maps in (made, golden))
    for stage, level, other in zip(STAGES, levels, expected, strict=True):
        spikes, residual = made[stage]["spikes"], made[stage]["residual"]
        print(f"{stage}: {tuple(spikes.shape)}, rate {float(spikes.mean()):.3f}, residual "
              f"{float(residual.min()):.2f} to {float(residual.max()):.2f} -> pyramid level "
              f"{tuple(level.shape)}, equal: {torch.equal(level, other)}")
        assert torch.equal(level, other)
    print(f"[fpn] {report.cycles:,} cycles, bit-exact: {report.bit_exact}")


if __name__ == "__main__":
    main()
