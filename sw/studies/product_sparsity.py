# SPDX-License-Identifier: Apache-2.0
"""How many additions would sums save that are used again: product sparsity, and neighbours.

    python -m sw.studies.product_sparsity [NETWORK ...] [--images N] [--batch B] [--json FILE]

A *row* is what a group adds for one result: the input bits of a window at one pixel, time step and
bit plane; each set bit is an addition in every output channel. Rows are compared in *tiles* of
rows in the engine's order, in *chunks* of their bits; tiles end where the weights change. Networks
are bundled ones, or `v2` of `sw.imagenet` at T=1. What was found: docs/product-sparsity.md.
"""

import argparse
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from rich.table import Table
from torch.nn import functional

from hw.presets import Preset, get_preset
from sw.bundled import bundled_network
from sw.compile.compiler import compile_model
from sw.cycles.timeline import predict
from sw.display import out, progress
from sw.export import write_json
from sw.golden.activity import set_bits
from sw.golden.network import evaluate, quantise_images
from sw.golden.numbers import naf
from sw.imagenet import network_model
from sw.model_file import IntegerModel, Layer
from sw.run import Step

__all__ = ["CHUNKS", "NETWORKS", "PRESETS", "SHOWN", "TILES", "cycles", "measure", "neighbours",
           "planes", "reuse", "rows", "study", "tiled"]

NETWORKS = ("cifar10_v2", "cifar10_v2_wide", "cifar10_v3", "cifar10_v3_wide")
TILES = (16, 64, 256)
"""Rows of a tile."""
CHUNKS = (16, 32, 64, 0)
"""Bits of a chunk; 0: the whole window."""
SHOWN = ("256x16 repeats", "256x16 prefix", "256x16 prefix turns", "256x16 prefix taken",
         "256x16 prefix joined", "256x16 prefix merged", "16x16 prefix joined", "256x0 prefix",
         "pair x", "pair t", "delta x", "delta t")
"""Schemes of the tables."""
PRESETS = ("small", "ecp5", "large")
"""Whose cycles are predicted."""
_PAIRS = 1 << 24
"""Pairs of rows that are compared at once."""
Part = tuple[str, str]
"""Layer and kind."""


def planes(value: torch.Tensor, kind: str, width: int) -> torch.Tensor:
    """`[T, ...]` values -> their binary planes `[T, P, ...]`, float, as the engine adds them.

    Spikes and levels have `width` binary digits; images and integer maps signed digits, the places
    of +1 and those of -1 a plane each.
    """
    if kind in ("image", "integer"):
        digits = naf(value, width)
        found = torch.cat([digits == 1, digits == -1], -1)
    else:
        found = value.unsqueeze(-1) >> torch.arange(width) & 1
    return found.movedim(-1, 1).float()


def rows(model: IntegerModel, layer: Layer,
         tensors: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, int, torch.Tensor]]:
    """What a layer adds: (kind, output channels of a bit, bits `[G, Y, X, T, P, K]`).

    Rows of different G have different weights; K counts in window order (ky, kx, channel).
    """
    if layer.kind not in ("conv", "depthwise", "attention"):
        return
    known = [model.tensors[name] for name in layer.inputs[:2]]
    signed = known[0].kind in ("image", "integer")
    bits = [planes(tensors[tensor.name], tensor.kind,
                   tensor.bits if signed else tensor.levels.bit_length()) for tensor in known]
    if layer.kind == "attention":
        wide = layer.out_channels // layer.heads
        q, k = (value.unflatten(2, (layer.heads, -1)) for value in bits)    # [T, P, head, d, H, W]
        yield "attention Q", wide, q.permute(0, 2, 4, 5, 1, 3).flatten(0, 1).unsqueeze(3)
        k = k.permute(0, 2, 3, 1, 4, 5).flatten(0, 1).flatten(3)            # [T head, d, P, H W]
        yield "attention K", wide, k[:, :, None, None]
        return
    shape, taps = bits[0].shape, layer.kernel[0] * layer.kernel[1]
    seen = functional.unfold(bits[0].flatten(0, 1), layer.kernel, padding=layer.padding,
                             stride=layer.stride).reshape(*shape[:3], taps, *layer.out_size)
    if layer.kind == "depthwise":
        yield "depthwise", 1, seen.permute(2, 4, 5, 0, 1, 3)
        return
    kind = ("signed digits" if signed else "MLP" if ".mlp." in layer.name
            else "{}x{} conv".format(*layer.kernel))
    yield kind, layer.out_channels, seen.permute(4, 5, 0, 1, 3, 2).flatten(4).unsqueeze(0)


def tiled(bits: torch.Tensor, tile: int, chunk: int) -> torch.Tensor:
    """Bits `[G, Y, X, T, P, K]` -> chunks of tiles `[N, rows, bits]`, filled up with zeros."""
    flat = bits.flatten(1, 4)
    count, width = flat.shape[1:]
    tile, chunk = min(tile, count), min(chunk or width, width)
    flat = functional.pad(flat, (0, -width % chunk, 0, -count % tile))
    return flat.unflatten(2, (-1, chunk)).unflatten(1, (-1, tile)).transpose(2, 3).flatten(0, 2)


def reuse(bits: torch.Tensor) -> Counter[str]:
    """Additions of rows `[N, R, K]` that use sums of other rows of the same N.

    The *prefix* of a row is that with the most bits among those whose bits are a proper subset of
    its own, or the same further up. `repeats`: rows whose prefix is the same cost nothing;
    `prefix`: rows cost the bits that their prefix lacks. Further costs:

    - ` turns`: a row that isn't empty takes one cycle at least; another adder does the rest.
    - ` taken`: taking up a prefix's sum is an addition.
    - ` merged`: so is joining the sum of a row that isn't empty to those of its other chunks.
    - ` joined`: the same where needed. Prefixes of one bit are not used; a row without a prefix
      adds straight to its own sum, and one more if it lends it.
    """
    found: Counter[str] = Counter()
    earlier = torch.ones(bits.shape[1], bits.shape[1], dtype=torch.bool).tril(-1)
    for part in bits.split(max(1, _PAIRS // bits.shape[1] ** 2)):
        size = part.sum(2)
        mine, other = size.unsqueeze(2), size.unsqueeze(1)
        usable = (part @ part.transpose(1, 2) == other) & ((other < mine) | earlier)
        best, prefix = (usable * other).max(2)
        rest, used, worth, filled = size - best, best > 0, best > 1, size > 0
        again = used & (rest == 0)
        lends = torch.zeros_like(size).scatter_add_(1, prefix, worth.float()) > 0
        for name, value in {
                "now": size, "repeats": size * ~again, "repeats taken": size * ~again + again,
                "repeats merged": size * ~again + again.int() + filled,
                "prefix": rest, "prefix turns": torch.maximum(rest, filled),
                "prefix taken": rest + used, "prefix merged": rest + used + filled,
                "prefix joined": torch.where(worth, rest + 1, size + lends)}.items():
            found[name] += int(value.sum())
    return found


def neighbours(bits: torch.Tensor) -> Counter[str]:
    """Additions of bits `[G, Y, X, T, P, K]` that use what neighbours have in common.

    `pair x`, `pair t`: two pixels of a row of the map, or two time steps, add common bits once;
    with ` taken` the second's use of that sum costs an addition, and is made where it saves.
    `delta x`, `delta t`: a row begins with the sum of the one before, and adds and subtracts the
    bits that differ, where those are fewer than its own.
    """
    found: Counter[str] = Counter()
    whole = int(bits.sum())
    for name, axis in (("x", 2), ("t", 3)):
        size = bits.shape[axis]
        pairs = bits.narrow(axis, 0, size - size % 2).unflatten(axis, (-1, 2))
        shared = (pairs.select(axis + 1, 0) * pairs.select(axis + 1, 1)).sum(-1)
        before, after = bits.narrow(axis, 0, size - 1), bits.narrow(axis, 1, size - 1)
        saved = after.sum(-1) - (before != after).sum(-1)
        found[f"pair {name}"] = whole - int(shared.sum())
        found[f"pair {name} taken"] = whole - int((shared - 1).clamp(min=0).sum())
        found[f"delta {name}"] = whole - int(saved.clamp(min=0).sum())
    return found


def measure(model: IntegerModel, tensors: Mapping[str, torch.Tensor]) -> dict[Part, Counter[str]]:
    """Additions of one image by scheme, for each layer; attention has two parts."""
    found = {}
    for layer in model.layers:
        for kind, weight, bits in rows(model, layer, tensors):
            counts = neighbours(bits)
            for tile, chunk in itertools.product(TILES, CHUNKS):
                part = reuse(tiled(bits, tile, chunk))
                counts["now"] = part.pop("now")
                counts.update({f"{tile}x{chunk} {name}": value for name, value in part.items()})
            found[layer.name, kind] = Counter({name: weight * counts[name] for name in counts})
    return found


def cycles(model: IntegerModel, preset: Preset, bits: Mapping[str, float],
           parts: Mapping[Part, Mapping[str, float]], batch: int = 1) -> dict[str, int]:
    """Predicted cycles of a batch if dense layers and Q did only the additions of each scheme.

    All else stays: window reads, epilogue, transfers, depthwise layers, K^T V. In `none` those
    layers have no addition at all.
    """
    program, found = compile_model(model, preset, batch=batch), {}
    for scheme in ("now", *SHOWN, "none"):
        scaled = dict(bits)
        for (name, kind), counts in parts.items():
            if kind not in ("depthwise", "attention K"):
                source = model.layer(name).inputs[0]
                scaled[source] = bits[source] * counts.get(scheme, 0) / max(1, counts["now"])
        found[scheme] = predict(model, program, scaled).cycles
    return found


def study(name: str, images: int, batch: int, step: Step) -> dict[str, object]:
    """The record of a network: additions of all images by layer and by kind; cycles of a batch."""
    if name == "v2":
        model, given = network_model(name, 1, None, step)
    else:
        model, given = bundled_network(name, images, step)
    parts, kinds = defaultdict(Counter), defaultdict(Counter)
    bits: Counter[str] = Counter()
    for number, image in enumerate(quantise_images(model, given.pixels)):
        step(f"{name}: comparing rows", number, len(given))
        tensors = evaluate(model, image)
        bits.update(set_bits(model, tensors))
        for part, counts in measure(model, tensors).items():
            parts[part].update(counts)
    for (_, kind), counts in parts.items():
        kinds[kind].update(counts)
    kinds["all"] = sum(kinds.values(), Counter())
    mean = {tensor: count / len(given) for tensor, count in bits.items()}
    return {"network": name, "images": len(given), "batch": batch, "kinds": kinds,
            "layers": [{"layer": layer, "kind": kind, **counts}
                       for (layer, kind), counts in parts.items()],
            "cycles": {size: cycles(model, get_preset(size), mean, parts, batch)
                       for size in PRESETS}}


def show(record: Mapping[str, dict]) -> None:
    """Additions of each kind and cycles, as shares of what they are now."""
    table = Table(title=f"{record['network']}: of an image now, and shares of it")
    for heading in ("", "now", *SHOWN, "none"):
        table.add_column(heading, justify="right" if heading else "left")
    for title, images, lines in (("additions", record["images"], record["kinds"]),
                                 ("cycles", record["batch"], record["cycles"])):
        for name, counts in lines.items():
            table.add_row(f"{title}, {name}", f"{counts['now'] / images / 1e6:,.2f} M", *(
                f"{counts.get(scheme, 0) / max(1, counts['now']):.1%}"
                for scheme in (*SHOWN, "none")))
    out.print(table)


def main() -> None:
    """Study the networks named, or all that are bundled."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", default=NETWORKS)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4, help="of the cycles predicted")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    records = []
    for name in options.networks:
        with progress() as step:
            records.append(study(name, options.images, options.batch, step))
        show(records[-1])
        if options.json is not None:
            write_json(options.json, records)


if __name__ == "__main__":
    main()
