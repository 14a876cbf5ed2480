"""The bench: it gives figures for what is there, and leaves nothing behind."""
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

import pytest

import weir

BENCH = os.path.join(weir.ROOT, "loadtest", "bench")


def marked(mark):
    """The processes whose environment has the mark."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                if mark.encode() in f.read().split(b"\0"):
                    found.append(pid)
        except OSError:
            pass
    return found


def begin(tmp_path, *arguments):
    mark = f"WEIR_BENCH_TEST={tmp_path}"
    name, value = mark.split("=")
    # what a shell starts in the background ignores SIGINT, and so do its children
    command = ["env", "--default-signal=INT", sys.executable, BENCH, "--systems", "weir,floor", "--out", str(tmp_path), *arguments]
    bench = subprocess.Popen(command, env={**os.environ, name: value}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return bench, mark


@pytest.mark.serial
def test_a_run_gives_figures_for_weir_and_the_floor_and_leaves_nothing(tmp_path):
    bench, mark = begin(tmp_path, "--cases", "hit-1k-h1,hit-1k-h2c", "--rounds", "1", "--seconds", "1")
    out, err = bench.communicate(timeout=50)
    assert bench.returncode == 0, err
    tables = [line.split("|") for line in out.splitlines() if line.startswith(("| weir |", "| floor |"))]
    assert [cells[1].strip() for cells in tables] == ["weir", "floor"] * 2
    assert all(float(cells[2]) > 0 for cells in tables)
    assert (tmp_path / "bench.md").read_text() in out
    chart = xml.etree.ElementTree.parse(tmp_path / "bench.svg")
    assert len(chart.findall("{http://www.w3.org/2000/svg}rect")) == 1 + 4  # the ground, and two bars for each case
    samples = json.loads((tmp_path / "bench.json").read_text())["samples"]
    assert all(samples[case][name][0]["p999_us"] > 0 for case in samples for name in ("weir", "floor"))
    assert marked(mark) == []


@pytest.mark.serial
def test_ctrl_c_stops_all_that_a_run_has_started(tmp_path):
    bench, mark = begin(tmp_path, "--cases", "hit-1k-h1", "--rounds", "100")
    for line in bench.stderr:
        if "hit-1k-h1" in line:  # the first sample is there
            break
    assert len(marked(mark)) > 3
    began = time.monotonic()
    bench.send_signal(signal.SIGINT)
    bench.communicate(timeout=20)
    assert bench.returncode == 130
    assert marked(mark) == []
    assert time.monotonic() - began < 10
