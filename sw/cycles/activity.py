# SPDX-License-Identifier: Apache-2.0
"""Set bits of the maps that layers read, from counts of spikes and digits."""

from collections.abc import Mapping

from sw.compile.estimate import usual_density
from sw.compile.layout import ImageLayout, MapLayout
from sw.compile.program import Program
from sw.model_file import IntegerModel

__all__ = ["expected_bits", "fills"]


def expected_bits(model: IntegerModel, program: Program) -> dict[str, float]:
    """Set bits of each map of an image: as the model file says, else those of a usual density."""
    found = {}
    for name, tensor in model.tensors.items():
        layout = program.tensors[name]
        if not isinstance(layout, MapLayout | ImageLayout):
            continue
        shown = layout.windows if isinstance(layout, ImageLayout) else layout
        found[name] = tensor.elements * shown.places * usual_density(
            model, tensor, shown.places, shown.ones)
    return found


def fills(model: IntegerModel, program: Program,
          bits: Mapping[str, float]) -> dict[int, tuple[float, ...]]:
    """Of each layer, the mean set bits of a word of a plane of each of its inputs.

    `bits`: set bits of each map of an image (`sw.golden.activity.set_bits`).
    """
    found = {}
    for number, layer in enumerate(model.layers):
        values = []
        for name in layer.inputs:
            layout, count = program.tensors[name], bits.get(name, 0.0)
            if isinstance(layout, ImageLayout):
                kernel, stride = layout.kernel, layout.stride
                count *= kernel[0] * kernel[1] / stride ** 2
                layout = layout.windows
            if not isinstance(layout, MapLayout):
                values.append(0.0)
                continue
            words = (layout.shape[0] * layout.planes * layout.words * layout.shape[2]
                     * layout.shape[3])
            values.append(count / words)
        found[number] = tuple(values)
    return found
