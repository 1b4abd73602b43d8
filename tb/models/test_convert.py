# SPDX-License-Identifier: Apache-2.0
"""The authors' files: refused as they are, converted on request, and nothing else is unpickled."""

import argparse
import subprocess
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from sw.cli import app
from sw.models.checkpoint import read_checkpoint
from sw.models.config import CheckpointError
from sw.models.convert import convert_checkpoint
from sw.models.load import load_network
from tb.quantise.networks import small_network


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A file like the published ones: model, epoch, args."""
    path = tmp_path / "net.pth"
    torch.save({"model": small_network(0, kd=True).state_dict(), "epoch": 3, "scaler": {},
                "args": argparse.Namespace(lr=0.1, time_steps=4)}, path)
    return path


def test_a_namespace_is_refused_with_the_way_out(published: Path) -> None:
    with pytest.raises(CheckpointError, match="addend convert-checkpoint .*net.pth"):
        read_checkpoint(published)


def test_converted_weights_are_the_same(published: Path, tmp_path: Path) -> None:
    target = tmp_path / "net.safetensors"
    result = CliRunner().invoke(app, ["convert-checkpoint", str(published), str(target)])
    assert result.exit_code == 0, result.output
    config, network = load_network(target, num_heads=4)
    assert config.kd
    for key, value in small_network(0, kd=True).state_dict().items():
        assert torch.equal(network.state_dict()[key], value), key


class _Evil:
    def __reduce__(self) -> tuple:
        return subprocess.check_output, (["false"],)


@pytest.mark.parametrize(("content", "message"), [
    ({"model": {"a": torch.ones(1)}, "args": _Evil()}, "not a file of weights"),
    ({"model": {"a": 1}}, "key 'a' is a int"),
    ([1], "holds no state_dict"),
])
def test_anything_else_is_refused(content: object, message: str, tmp_path: Path) -> None:
    path, target = tmp_path / "bad.pth", tmp_path / "bad.safetensors"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        convert_checkpoint(path, target)
    assert not target.exists()


def test_names_are_checked(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        convert_checkpoint(tmp_path / "none.pth", tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"must end in \.safetensors"):
        convert_checkpoint(tmp_path / "none.pth", tmp_path / "a.pt")
