# SPDX-License-Identifier: Apache-2.0
"""Shards of work on processes of this machine, or of many: dask.distributed, either way."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from distributed import Client, LocalCluster, get_worker, wait

from sw.evaluation.results import EvaluationError
from sw.evaluation.shards import code_digest

__all__ = ["Shard", "cluster", "results_of"]

CONNECT_SECONDS = 20
"""How long a scheduler may take to answer, and a first worker to be there."""
SHARD_SECONDS = 3600
"""How long no shard at all may end."""
AHEAD = 3
"""Shards that wait at each worker."""

Shard = tuple[object, Callable, tuple]
"""A key, a function that workers import, and its arguments."""


@contextlib.contextmanager
def cluster(scheduler: str | None, jobs: int) -> Iterator[Client]:
    """A client of the scheduler at an address, or of `jobs` processes made here.

    Raises `EvaluationError` where the scheduler does not answer or has no worker.
    """
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            scheduler = stack.enter_context(LocalCluster(
                n_workers=jobs, threads_per_worker=1, memory_limit=0,
                dashboard_address=None, silence_logs=logging.ERROR))
        try:
            client = stack.enter_context(Client(scheduler, timeout=CONNECT_SECONDS))
        except (OSError, ValueError) as error:
            raise EvaluationError(f"scheduler {scheduler}: no answer within {CONNECT_SECONDS} s "
                                  f"({error})") from error
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError as error:
            raise EvaluationError(f"scheduler {scheduler}: no worker after {CONNECT_SECONDS} s; "
                                  f"start some: dask worker {scheduler}") from error
        yield client


def results_of(client: Client, model: object,
               shards: Iterable[Shard]) -> Iterator[tuple[object, object]]:
    """Each shard's key and result, in the order in which they end.

    The functions are called with `model`, which travels to each worker once, and the shard's
    arguments. Raises what a shard raises, and `EvaluationError` where a worker has other code or
    nothing ends for an hour.
    """
    code, everywhere = code_digest(), client.scatter(model, broadcast=True)
    keys, waiting = {}, iter(shards)
    while True:
        room = AHEAD * max(1, len(client.nthreads())) - len(keys)
        for _, (key, work, arguments) in zip(range(room), waiting, strict=False):
            keys[client.submit(_checked, code, work, everywhere, *arguments, pure=False)] = key
        if not keys:
            return
        try:
            ended = wait(list(keys), timeout=SHARD_SECONDS, return_when="FIRST_COMPLETED").done
        except TimeoutError as error:
            raise EvaluationError(f"no shard ended within {SHARD_SECONDS} s") from error
        for future in ended:
            yield keys.pop(future), future.result()


def _checked(code: str, work: Callable, model: object, *arguments: object) -> object:
    """A shard's result, if this worker has the code of who asks."""
    if code_digest() != code:
        raise EvaluationError(f"worker {get_worker().address} has another version of Addend, in "
                              f"{Path(__file__).parents[2]}")
    return work(model, *arguments)
