"""What the bench shows: the table, the missing, the failures, the plots, and its options."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest

from consensusllm.bench.figures import SYSTEMS, Cell, Results
from consensusllm.bench.plan import FLOOR_CELL, WORKLOADS, Plan
from consensusllm.bench.plots import bars, write
from consensusllm.bench.report import milliseconds, report, table
from consensusllm_cli.bench import _chosen, bench

LOOP = {"per_second": 2000.0, "p50_us": 500.0, "p99_us": 1500.0}


def some_results() -> Results:
    results = Results()
    floor = {"fdatasync_us": 100.0, "ping_us": 200.0, "put_us": 500.0, "bare_us": 625.0}
    results.add(FLOOR_CELL, 1, floor)
    results.add(Cell("puts", 64, "etcd"), 1, LOOP)
    ours = {"per_second": 5000.0, "p50_us": 250.0, "p99_us": 3000.0, "cpu_us_leader": 40.0}
    results.add(Cell("puts", 64, "direct"), 1, ours)
    results.add(Cell("failover", 0, "direct"), 1, {"gap_ms": 400.0})
    results.failures[Cell("reads", 1, "etcd")] = "UNAVAILABLE: it fell over"
    results.missing["PySyncObj"] = "PySyncObj is not installed: pip install pysyncobj"
    return results


def test_columns_are_as_wide_as_their_widest_cell_and_numbers_stand_to_the_right() -> None:
    assert table(["name", "per s"], [["a", "1"], ["longer", "20,000"]]) == [
        "name     per s",
        "------  ------",
        "a            1",
        "longer  20,000",
    ]


def test_latencies_keep_three_digits_that_count() -> None:
    assert [milliseconds(us) for us in (85.0, 1234.0, 56_780.0, None)] == [
        "0.085",
        "1.234",
        "56.8",
        "-",
    ]


def test_the_report_gives_figures_ratios_and_the_distance_to_the_floor() -> None:
    text = report({"machine": "2 cores"}, Plan(), some_results(), ["it was busy"])
    lines = [line.split() for line in text.splitlines()]
    ours = next(line for line in lines if line[:2] == ["64", "direct"])
    # per s, p50, p99; against etcd; p50 against the floor of 500 us, and a bare put of 625.
    assert " ".join(ours[2:]) == "5,000 0.250 3.000 2.50 x 0.50 x 2.00 x 0.50 x 0.40 x"
    etcd = next(line for line in lines if line[:2] == ["64", "etcd"])
    assert " ".join(etcd[2:]) == "2,000 0.500 1.500 - - - 1.00 x 0.80 x"
    assert "machine   2 cores" in text
    assert "note: it was busy" in text


def test_the_report_judges_the_goals_that_it_can() -> None:
    text = report({}, Plan(), some_results(), [])
    [goal] = [line for line in text.splitlines() if line.startswith("puts, 64 outstanding, over")]
    assert " ".join(goal.split()[-9:]) == "5,000/s 2,000/s 2.50 x at least 2 x reached"
    assert "puts, 256 outstanding, over" not in text


def test_what_is_missing_or_failed_is_named_and_never_guessed() -> None:
    text = report({}, Plan(), some_results(), [])
    assert "missing: PySyncObj: PySyncObj is not installed: pip install pysyncobj" in text
    assert "failed: etcd, reads 1: UNAVAILABLE: it fell over" in text
    [row] = [line.split() for line in text.splitlines() if line.split()[:2] == ["1", "etcd"]]
    assert set(row[2:]) == {"-"}


def test_a_report_of_nothing_is_its_conditions() -> None:
    assert "machine" in report({"machine": "2 cores"}, Plan(), Results(), [])


def test_the_document_has_every_run_and_is_json() -> None:
    document = json.loads(json.dumps(some_results().document()))
    [puts] = [one for one in document["cells"] if one["system"] == "etcd"]
    assert puts["median"] == LOOP
    assert puts["runs"] == [{"run": 1, **LOOP}]
    assert document["failures"][0]["reason"] == "UNAVAILABLE: it fell over"
    assert list(document["missing"]) == ["PySyncObj"]


def test_bars_are_drawn_to_one_scale() -> None:
    drawn = ElementTree.fromstring(
        bars("puts & more", "a second", {"1": [("direct", 50.0)], "64": [("etcd", 100.0)]})
    )
    rects = [one for one in drawn.iter() if one.tag.endswith("rect")][1:]
    short, long = (float(rect.attrib["width"]) for rect in rects)
    assert long == pytest.approx(2 * short, rel=0.01)
    assert long <= float(drawn.attrib["width"])


def test_bars_of_nothing_but_zeros_are_drawn() -> None:
    ElementTree.fromstring(bars("failover", "ms", {"": [("direct", 0.0)]}))


def test_a_plot_is_written_for_each_workload_that_was_measured(tmp_path: Path) -> None:
    written = write(some_results(), tmp_path / "plots")
    assert [path.name for path in written] == ["puts.svg", "failover.svg"]
    assert "etcd" in written[0].read_text(encoding="utf-8")


def test_a_list_of_names_is_taken_in_any_case_and_order() -> None:
    assert _chosen("--systems", "PYSYNCOBJ, direct", SYSTEMS) == ("direct", "PySyncObj")


def test_a_name_that_is_misspelt_is_answered_with_near_ones() -> None:
    with pytest.raises(click.UsageError, match=r"did you mean catch-up\?"):
        _chosen("--only", "puts,catchup", tuple(WORKLOADS))


@pytest.mark.parametrize("text", ["putts", "puts,putts", "", ","])
def test_an_unknown_name_or_none_is_misuse_that_names_the_known_ones(text: str) -> None:
    with pytest.raises(click.UsageError, match="none of floor, starting, memory, puts"):
        _chosen("--only", text, tuple(WORKLOADS))


@pytest.mark.parametrize("option", ["--json", "--plots"])
def test_nothing_is_measured_where_the_figures_cannot_be_written(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consensusllm.bench.run.Bench", lambda *_: pytest.fail("it is measured"))
    (tmp_path / "file").touch()
    with pytest.raises(click.UsageError, match=f"{option} .*: Not a directory"):
        bench.main([option, str(tmp_path / "file" / "below")], standalone_mode=False)
