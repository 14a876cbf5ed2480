"""Instructions for each hit, in user space, by callgrind: the same on a noisy machine as on a calm one."""
import glob
import os
import re
import shutil

import cases
from process import Failure
from runner import say

FEW, MANY = 1000, 6000


def counted_once(bench, system, case, requests):
    """Instructions of a whole life with so many requests."""
    out = os.path.join(bench.directory, f"callgrind.{system.name}.{case.name}.{requests}")
    instance = bench.start(system, threads=1, before=["valgrind", "--tool=callgrind", "--callgrind-out-file=" + out])
    try:
        cases.check_document(instance, case.size, "hot")
        case.prepare(bench, instance)
        case.count(bench, instance, requests)
    finally:
        bench.stop(instance)
    total = 0
    for name in glob.glob(out + "*"):
        with open(name) as f:
            total += sum(int(n) for n in re.findall(r"^(?:summary|totals): (\d+)", f.read(), re.M)[:1])
    if total == 0:
        raise Failure("callgrind has counted nothing")
    return total


def run(bench, wanted):
    """By case and system. What all lives have in common, such as the start, cancels out in the difference of two."""
    if shutil.which("valgrind") is None:
        raise SystemExit("bench: --instructions needs valgrind")
    counts = {}
    for case in wanted:
        for system in bench.systems:
            few, many = (counted_once(bench, system, case, requests) for requests in (FEW, MANY))
            counts.setdefault(case.name, {})[system.name] = (many - few) / (MANY - FEW)
            say(f"{case.name:16} {system.name:8} {counts[case.name][system.name]:,.0f} instructions")
    return counts


def table(counts):
    names = list(dict.fromkeys(name for row in counts.values() for name in row))
    lines = ["Instructions for each request, in user space (callgrind).", "",
             "| case | " + " | ".join(names) + (" | weir / floor |" if {"weir", "floor"} <= set(names) else " |"),
             "| --- |" + " ---: |" * (len(names) + ({"weir", "floor"} <= set(names)))]
    for case, row in counts.items():
        cells = [f"{row[name]:,.0f}" for name in names]
        if {"weir", "floor"} <= set(names):
            cells.append(f"{row['weir'] / row['floor']:.2f}")
        lines.append(f"| {case} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
