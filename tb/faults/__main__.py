# SPDX-License-Identifier: Apache-2.0
"""Plants faults and shows that each is caught and named.

    python -m tb.faults

Prints a table and writes ``build/faults.json``. A fault is *caught* when `compare` finds a
difference, and *as predicted* when every first element, value and count that it names, in every
tensor and image, is the one that the golden model foretells. Exit code 1 if a fault is not, or if
something is found where no fault is.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.table import Table

from sw.compare import Comparison
from sw.display import out, progress
from sw.export import write_json
from tb.faults.planted import FAULTS
from tb.faults.subject import Fault, network, one_pixel

__all__ = ["main"]

OUTPUT = Path("build/faults.json")


def main(faults: Mapping[str, Callable[[], Fault]] = FAULTS, output: Path = OUTPUT) -> int:
    """Plant all faults; return the exit code."""
    table = Table("fault", "planted in", "first difference", "caught", "as predicted",
                  title="faults, on preset tiny", show_lines=True)
    records = []
    with progress() as step:
        step("no fault", 0, len(faults) + 1)
        clean = [subject.compare(teacher_forced=forced)
                 for subject in (network(), one_pixel()) for forced in (False, True)]
        for done, (name, make) in enumerate(faults.items(), 1):
            step(f"planting: {name}", done, len(faults) + 1)
            fault = make()
            records.append(_record(name, fault, fault.compare()))
    for record in records:
        table.add_row(record["fault"], record["planted"], record["said"],
                      "yes" if record["caught"] else "NO",
                      "yes" if record["as_predicted"] else "NO")
    quiet = all(comparison.equal for comparison in clean)
    table.add_row("none", "-", "-" if quiet else "a difference", "-" if quiet else "NO FAULT",
                  "yes" if quiet else "NO")
    out.print(table)
    write_json(output, {"preset": "tiny", "without_fault_equal": quiet, "faults": records})
    return 0 if quiet and all(record["caught"] and record["as_predicted"]
                              for record in records) else 1


def _record(name: str, fault: Fault, found: Comparison) -> dict[str, object]:
    first = next((image.first for image in found.images if image.first), None)
    failures = [failure for image in found.images for failure in image.failures]
    return {"fault": name, "planted": fault.planted, "caught": not found.equal,
            "as_predicted": fault.is_named(found),
            "said": "; ".join([str(first or "nothing differs"), *failures]),
            "first": None if first is None else vars(first), "failures": failures,
            "tensors_that_differ": sum(len(image.differences) for image in found.images),
            "teacher_forced": fault.teacher_forced}


if __name__ == "__main__":
    sys.exit(main())
