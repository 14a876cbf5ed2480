"""loadtest/replay: the models know their bounds, and the store comes near the model that it is like."""
import os
import subprocess

import pytest

import weir

REPLAY = os.path.join(os.path.dirname(weir.BINARY), "replay")


def replay(*arguments):
    """{(what, size): ratio of requests}"""
    out = subprocess.run([REPLAY, *arguments], check=True, stdout=subprocess.PIPE, encoding="utf-8", timeout=120).stdout
    rows = [line.split("\t") for line in out.splitlines() if not line.startswith("#")]
    return {(what, size): float(ratio) for what, size, ratio, *_ in rows}


@pytest.mark.skipif(weir.SANITIZER == "thread", reason="it has one thread")
@pytest.mark.parametrize("mixture", [[], ["--scans", "--wonders"]])
def test_no_way_of_evicting_is_beyond_the_bounds(mixture):
    ratios = replay("--zipf", "1", "--objects", "3000", "--requests", "30000", "--sizes", "1,10,50", "--cost", *mixture)
    for size in ("1", "10", "50"):
        assert 0 < ratios["lru", size] < 1 and 0 < ratios["sieve", size] < 1
        for what in ("lru", "sieve", "lru-exact", "sieve-exact", "sieve-cost", "gdsf", "gdsf-cost", "belady"):
            assert ratios[what, size] <= ratios["bound", size], (what, size)
        assert ratios["belady", size] > ratios["lru-exact", size]
        if size != "1":  # of which each shard holds two or three
            assert abs(ratios["sieve", size] - ratios["sieve-exact", size]) < 0.05
            assert abs(ratios["lru", size] - ratios["lru-exact", size]) < 0.05


def test_a_trace_is_read_as_it_is_written(tmp_path):
    """Where everything has room, all but the first request for each key hit."""
    path = tmp_path / "trace.csv"
    path.write_text("# made for this test\n" + "\n".join(["a,70000", "b,1", "a,5", "c", "b", "a"]) + "\n")
    ratios = replay("--file", str(path), "--sizes", "100,0.001")
    for what in ("lru-exact", "belady", "bound"):
        assert ratios[what, "100"] == 0.5
        assert ratios[what, "0.001"] == 0


@pytest.mark.parametrize("text,what", [("a,0\n", "trace.csv:1:"), ("a,1\nb,x\n", "trace.csv:2:"), ("# nothing\n", "no request")])
def test_what_is_no_trace_is_said(tmp_path, text, what):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    r = subprocess.run([REPLAY, "--file", str(path)], stderr=subprocess.PIPE, encoding="utf-8", timeout=60)
    assert r.returncode == 1 and what in r.stderr
