# SPDX-License-Identifier: Apache-2.0
"""Decides proofs: base case, induction step, covers, and every planted bug."""

import dataclasses
from pathlib import Path

from tb.prove.engine import FOLDER, Answer, Engine
from tb.prove.proof import Bug, Proof
from tb.prove.properties import Properties

__all__ = ["Caught", "Result", "check"]


@dataclasses.dataclass(frozen=True)
class Caught:
    """What became of a planted bug."""

    bug: str
    caught: bool
    said: str


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a proof."""

    proof: str
    block: str
    claims: list[str]
    assumptions: list[str]
    covers: list[str]
    holds: bool
    said: str
    k: int
    """Good cycles that the induction step needed."""
    seconds: float
    """Of the solver, for this proof and its bugs; cached or not."""
    bugs: list[Caught]

    @property
    def good(self) -> bool:
        """Whether it holds and every bug breaks it."""
        return self.holds and all(bug.caught for bug in self.bugs)


def check(proof: Proof, bugs: bool = True, limit: int = 300, folder: Path = FOLDER,
          count: int | None = None) -> Result:
    """Decide a proof and, if asked for, (the first ``count`` of) its planted bugs.

    It holds if the base case, the induction step and every cover do; a cover that isn't reached
    would mean that the claims hold of too little. A bug is caught if a run from reset breaks a
    claim: a failed induction step alone would not tell a bug from a weak proof.
    """
    properties = proof.properties()
    engine = Engine(properties, proof.flat_memory, limit, folder)
    answers, faults = {}, []
    for name, question, steps in (("broken from reset", engine.base, proof.k),
                                  ("no induction", engine.induction, proof.k),
                                  ("not reached", engine.covers, proof.reach)):
        answers[name] = answer = question(steps)
        if not answer.holds:
            faults.append(f"{name}: {_texts(properties, answer)}")
    seconds = sum(answer.seconds for answer in answers.values())
    caught = []
    for bug in proof.bugs[:count] if bugs else ():
        result, took = _plant(proof, bug, limit, folder)
        caught.append(result)
        seconds += took
    return Result(
        proof.name, f"{proof.block.__module__}.{proof.block.__name__}", properties.said("claim"),
        properties.said("assume"), properties.said("cover"), not faults,
        "; ".join(faults) or "holds", answers["no induction"].step, round(seconds, 1), caught)


def _plant(proof: Proof, bug: Bug, limit: int, folder: Path) -> tuple[Caught, float]:
    properties = proof.properties(bug)
    answer = Engine(properties, proof.flat_memory, limit, folder).base(proof.reach)
    said = (f"nothing in {proof.reach} cycles" if answer.holds else
            f"cycle {answer.step}: {_texts(properties, answer)}")
    return Caught(bug.text, not answer.holds, said), answer.seconds


def _texts(properties: Properties, answer: Answer) -> str:
    return ", ".join(dict.fromkeys(properties.texts[n][1] for n in answer.failed)) or "?"
