# SPDX-License-Identifier: Apache-2.0
"""The bundled networks for CIFAR-10, quantised, with test images."""

from pathlib import Path

from sw.images import Images, load_images
from sw.model_file import IntegerModel
from sw.run import Step, quantise_checkpoint

__all__ = ["bundled_network"]

ROOT = Path(__file__).resolve().parent.parent


def bundled_network(name: str, limit: int, step: Step) -> tuple[IntegerModel, Images]:
    """The integer model of `models/NAME.safetensors`, and the first `limit` bundled test images."""
    model = quantise_checkpoint(ROOT / "models" / f"{name}.safetensors",
                                ROOT / "data" / "cifar10_calibration_256.npz", name=name, step=step)
    return model, load_images(ROOT / "data" / "cifar10_test_256.npz", model, limit=limit)
