"""What was measured as Markdown."""
import os
import platform
import statistics
import time


def machine():
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}"


def median_of(samples, figure):
    values = [s[figure] for s in samples if figure in s]
    return statistics.median(values) if values else None


def spread_of(samples, figure):
    values = [s[figure] for s in samples]
    return (max(values) - min(values)) / statistics.median(values)


def ratio(samples, others, figure):
    """The median of the ratios within each round: what slows the whole machine for some seconds cancels out."""
    pairs = [a[figure] / b[figure] for a, b in zip(samples, others) if b[figure] > 0]
    return statistics.median(pairs) if pairs else None


def best_peer(results, case):
    """The peer with the least of what the case is about."""
    peers = [s.name for s in results.systems if s.is_peer and results.samples[case.name][s.name]]
    return min(peers, key=lambda name: median_of(results.samples[case.name][name], case.figure), default=None)


def comparisons(results, case, name):
    """A system's ratios to the floor and to the best peer; None where there is none."""
    mine = results.samples[case.name][name]
    out = []
    for other in ("floor", best_peer(results, case)):
        theirs = results.samples[case.name].get(other)
        out.append(ratio(mine, theirs, case.figure) if mine and theirs else None)
    return out


def number(value, digits=2):
    return "" if value is None else f"{value:,.{digits}f}"


def row(cells):
    return "| " + " | ".join(cells) + " |"


def head(names):
    return [row(names), "| --- |" + " ---: |" * (len(names) - 1)]


def written(case, value):
    return number(value, 2 if case.figure == "cpu_us" else 0)


def summary(results):
    """All cases on one page."""
    names = [s.name for s in results.systems]
    compared = "weir" in names
    lines = head(["case", *names, *(["weir / floor", "weir / best peer"] if compared else [])])
    for case in results.cases:
        values = (median_of(results.samples[case.name][name], case.figure) for name in names)
        ratios = [number(r) for r in comparisons(results, case, "weir")] if compared else []
        unit = "" if case.figure == "cpu_us" else ", bytes"
        lines.append(row([case.name + unit, *(written(case, value) or "-" for value in values), *ratios]))
    return lines


def system_row(results, case, system, columns):
    samples = results.samples[case.name][system.name]
    why = results.lacking[case.name].get(system.name)
    if system.name in results.failed[case.name] or not samples:
        return row([system.name, why or "FAIL"] + [""] * (columns - 2))
    cells = [system.name, written(case, median_of(samples, case.figure)),
             *(number(r) for r in comparisons(results, case, system.name))]
    if case.figure == "cpu_us":
        cells += [number(median_of(samples, figure), 0) for figure in ("rps", "p50_us", "p99_us", "p999_us")]
        cells += [f"{median_of(samples, figure):.0%}" for figure in ("core", "others")]
        cells.append(f"{spread_of(samples, case.figure):.0%}" if len(samples) > 1 else "")
    return row(cells)


def case_table(results, case):
    columns = ["system", "bytes", "/ floor", "/ best peer"]
    if case.figure == "cpu_us":
        columns = ["system", "CPU us", *columns[2:], "req/s", "p50 us", "p99 us", "p99.9 us", "core", "others", "spread"]
    lines = [f"### {case.name}", "", case.title[0].upper() + case.title[1:] + ".", "", *head(columns)]
    lines += [system_row(results, case, system, len(columns)) for system in results.systems]
    for name, why in results.failed[case.name].items():
        lines += ["", f"FAIL {name}: {why}"]
    return lines


def markdown(results, bench, took_s):
    size = ", a tenth of the objects" if bench.small else ""
    lines = ["# Bench", "", f"{time.strftime('%Y-%m-%d')}, {machine()}. {bench.rounds} rounds of {bench.seconds:g} s, medians{size}; "
             f"{took_s:.0f} s in all. CPU time of the server for each request, in us. loadtest/README.md says how to read this.", "",
             ", ".join(f"{s.name} {s.version()}" for s in results.systems) + ".", ""]
    lines += [f"Left out: {name}: {why}." for name, why in results.left_out.items()] + [""] * bool(results.left_out)
    lines += summary(results)
    for case in results.cases:
        lines += ["", *case_table(results, case)]
    return "\n".join(lines) + "\n"
