# SPDX-License-Identifier: Apache-2.0
"""`addend evaluate`: whole sets in shards, resumed, on processes and on a scheduler's workers."""

import functools
import json
import time
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster

import sw.evaluation.cluster
import sw.evaluation.evaluate
from sim.build import QUICK
from sw.errors import AddendError
from sw.evaluation.evaluate import Evaluation, evaluate_set
from sw.evaluation.results import EvaluationError, Results
from sw.evaluation.shards import golden_shard
from sw.golden.network import evaluate, quantise_images
from sw.golden.useful import useful_additions
from sw.images import ImageError, Images, load_images
from sw.model_file import IntegerModel
from sw.train.cifar10 import write_batch
from tb.cli.test_cli import addend


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images a golden shard, one an RTL shard."""
    monkeypatch.setattr(sw.evaluation.evaluate, "GOLDEN_VALUES", 2 * 3 * 16 * 16)
    monkeypatch.setattr(sw.evaluation.evaluate, "RTL_VALUES", 1)


@pytest.fixture
def images(folder: Path, model: IntegerModel) -> Images:
    return load_images(folder / "images.npz", model)


def same(one: Evaluation, other: Evaluation) -> bool:
    return all(np.array_equal(getattr(one.results, side)[name], values)
               for side in ("golden", "rtl")
               for name, values in getattr(other.results, side).items())


def test_processes_and_a_scheduler_give_the_same(tmp_path: Path, images: Images,
                                                 model: IntegerModel) -> None:
    here = evaluate_set(model, images, "tiny", tmp_path / "here", rtl=2, jobs=1,
                        effort=QUICK)
    golden = evaluate(model, quantise_images(model, images.pixels))
    assert np.array_equal(here.results.golden["logits"], golden["logits"].numpy())
    first = {name: value[0] for name, value in golden.items()}
    assert here.results.golden["additions"][0].tolist() == list(
        useful_additions(model, first).values())
    head = len(model.layers) - 2
    fires = model.layers[head].outputs["spikes"]
    assert here.results.golden["spikes"][0, head] == int(first[fires].sum())
    assert here.images == 4 and here.simulated == here.equal == 2
    assert here.right == int((golden["predictions"].numpy() == np.arange(4)).sum())
    assert 0.01 < here.utilisation < 1 and here.mean("bytes_read") > 0
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        there = evaluate_set(model, images, "tiny", tmp_path / "there", rtl=2, effort=QUICK,
                             scheduler=cluster.scheduler_address)
    assert same(here, there)


def test_the_command_resumes_and_finds_a_difference(folder: Path, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sw.evaluation.evaluate, "evaluate_set",
                        functools.partial(evaluate_set, effort=QUICK))
    results = tmp_path / "results"
    command = ["evaluate", folder / "model.safetensors", "--images", folder / "images.npz",
               "--preset", "tiny", "--jobs", 1, "--results", results, "--json", tmp_path / "j",
               "--layers"]
    done = addend(*command)
    assert done.exit_code == 0, done.output
    assert "--rtl 4" in done.output and json.loads((tmp_path / "j").read_text())["images"] == 4
    # a planted fault: what is done is not done again, so that the RTL must differ
    known = _results(results)
    known.golden["logits"][:] += 1
    known.save(results)
    done = addend(*command, "--rtl", 1)
    assert done.exit_code == 1 and "bit-exact: no" in done.output
    report = json.loads((tmp_path / "j").read_text())
    assert report["rtl_images"] == 1 and report["rtl_equal"] == 0
    known.golden["logits"][:] -= 1
    known.save(results)
    done = addend(*command, "--rtl", 1)
    assert done.exit_code == 0 and "bit-exact: yes (1 images" in done.output


def _results(path: Path) -> Results:
    """What a file holds, whatever it belongs to."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        of = json.loads(file.metadata()["of"])
        images, layers = file.get_tensor("golden.additions").shape
        classes = file.get_tensor("golden.logits").shape[1]
    made = Results.empty(of, images, layers, classes)
    made.load(path)
    return made


def test_an_interrupted_evaluation_keeps_what_it_has(tmp_path: Path, images: Images,
                                                     model: IntegerModel,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    real = sw.evaluation.evaluate.results_of

    def interrupted(client: object, model: IntegerModel, shards: object) -> object:
        key, work, arguments = next(iter(shards))
        yield key, work(model, *arguments)
        raise KeyboardInterrupt

    results = tmp_path / "results"
    monkeypatch.setattr(sw.evaluation.evaluate, "results_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_set(model, images, "tiny", results, jobs=1)
    assert _results(results).golden["done"].tolist() == [True, True, False, False]
    todo = []

    def noted(client: object, model: IntegerModel, shards: object) -> object:
        for key, result in real(client, model, shards):
            todo.append(key[1].tolist())
            yield key, result

    monkeypatch.setattr(sw.evaluation.evaluate, "results_of", noted)
    whole = evaluate_set(model, images, "tiny", results, jobs=1)
    assert todo == [[2, 3]] and whole.images == 4
    direct = golden_shard(model, images)
    assert np.array_equal(whole.results.golden["logits"], direct["logits"])


def test_what_does_not_fit_is_refused(model: IntegerModel, tmp_path: Path, images: Images,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "results"
    Results.empty({"model": "other"}, 4, 1, 5).save(results)
    with pytest.raises(EvaluationError, match="results: results of another model"):
        evaluate_set(model, images, "tiny", results, jobs=1)
    results.unlink()
    evaluate_set(model, images, "tiny", results, jobs=1, seed=1)
    with pytest.raises(EvaluationError, match="results: results of another seed"):
        evaluate_set(model, images, "tiny", results, jobs=1)
    monkeypatch.setattr(sw.evaluation.evaluate, "code_digest", lambda: "another")
    with pytest.raises(EvaluationError, match="results of another version of the code"):
        evaluate_set(model, images, "tiny", results, jobs=1, seed=1)
    results.write_bytes(b"no file of ours")
    with pytest.raises(EvaluationError, match="results: no results of an evaluation"):
        evaluate_set(model, images, "tiny", results, jobs=1)
    with pytest.raises(EvaluationError, match="rtl is 5, must be 0..4"):
        evaluate_set(model, images, "tiny", tmp_path / "new", rtl=5, jobs=1)
    with pytest.raises(AddendError, match="jobs is 0"):
        evaluate_set(model, images, "tiny", tmp_path / "new", jobs=0)
    monkeypatch.setattr(sw.evaluation.cluster, "CONNECT_SECONDS", 1)
    with pytest.raises(EvaluationError, match="127.0.0.1:9: no answer within 1 s"):
        evaluate_set(model, images, "tiny", tmp_path / "new", scheduler="tcp://127.0.0.1:9")
    with LocalCluster(n_workers=0, dashboard_address=None) as empty, \
            pytest.raises(EvaluationError, match="no worker after 1 s"):
        evaluate_set(model, images, "tiny", tmp_path / "new", scheduler=empty.scheduler_address)
    assert not (tmp_path / "new").exists()


def _fails(model: object) -> None:
    raise ValueError("planted")


def _sleeps(model: object) -> None:
    time.sleep(3)


def test_what_goes_wrong_on_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    results_of = sw.evaluation.cluster.results_of
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False,
                      dashboard_address=None) as cluster, Client(cluster) as client:
        with pytest.raises(ValueError, match="planted"):
            list(results_of(client, None, [("key", _fails, ())]))
        monkeypatch.setattr(sw.evaluation.cluster, "SHARD_SECONDS", 1)
        with pytest.raises(EvaluationError, match="no shard ended within 1 s"):
            list(results_of(client, None, [("key", _sleeps, ())]))
        monkeypatch.setattr(sw.evaluation.cluster, "SHARD_SECONDS", 60)
        digests = iter(["ours", "another"])
        monkeypatch.setattr(sw.evaluation.cluster, "code_digest", lambda: next(digests))
        with pytest.raises(EvaluationError, match="has another version of Addend"):
            list(results_of(client, None, [("key", _sleeps, ())]))


def test_the_folder_of_cifar10(tmp_path: Path, model: IntegerModel) -> None:
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    write_batch(tmp_path / "test_batch.bin", pixels, np.array([7, 0, 9]))
    np.savez(tmp_path / "same.npz", images=pixels, labels=np.array([7, 0, 9]))
    read, same_images = (load_images(path, model, limit=2)
                         for path in (tmp_path, tmp_path / "same.npz"))
    assert read.labels == [7, 0] and read.names[1] == "test[00001]"
    assert (read.pixels == same_images.pixels).all()
    with pytest.raises(ImageError, match="data_batch_1.bin: no such file"):
        load_images(tmp_path, model, split="train")
    for number in range(1, 6):
        write_batch(tmp_path / f"data_batch_{number}.bin", pixels, np.array([number, 0, 0]))
    assert load_images(tmp_path, model, split="train").labels[::3] == [1, 2, 3, 4, 5]
