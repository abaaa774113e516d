"""What is told of a run: tables, charts, verdicts, and the faults that make it fail."""

import json
import os
import time
from array import array
from collections import Counter
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from PIL import Image

from load.bench import Aim, Row, limit_rate
from load.chart import Panel, Series, draw, step_of
from load.figures import latency
from load.generator import Result
from load.measuring import Shot
from load.processes import Cores, cpu_s, descendants, resident_bytes
from load.proving import delivery_faults, growth_bytes
from load.report import Verdict, machine, machine_line, table, write_json
from load.runs import Goal, Sample, Soak, draw_soak, judge_step, rates


def result(*, successes: int = 0, errors: int = 0, wall_s: float = 1.0, each_s: float = 0.01) -> Result:
    codes = Counter({"201": successes} | ({"503": errors} if errors else {}))
    return Result(
        latencies_s=array("d", [each_s] * successes),
        accepted=array("L", range(successes)),
        codes=codes,
        wall_s=wall_s,
    )


def kept(*digests: str, key: str = "k") -> dict[str, Any]:
    return {"key": key, "documents": [{"sha256": digest} for digest in digests]}


# ── Tables and files ──


def test_a_table_has_columns_of_one_width() -> None:
    assert table(("a", "bb"), [("ccc", "d")]).splitlines() == ["a    bb", "---  --", "ccc  d"]


def test_the_machine_is_told_and_the_report_can_be_read_again(tmp_path: Path) -> None:
    found = machine()
    assert f"{found['cores']} cores" in machine_line(found)
    write_json(tmp_path / "report.json", found)
    assert json.loads((tmp_path / "report.json").read_text()) == found


def test_a_chart_is_a_picture_with_its_lines(tmp_path: Path) -> None:
    panels = [
        Panel(title="two", series=[Series(name="one", points=[(0, 0), (1, 5)]), Series(name="dot", points=[(1, 1)])]),
        Panel(title="none", series=[Series(name="empty", points=[])]),
    ]
    draw(tmp_path / "chart.png", "Heading", panels)
    with Image.open(tmp_path / "chart.png") as picture:
        assert picture.format == "PNG"
        assert picture.size == (1100, 464)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(maxcolors=100_000) or ()}
    assert {(31, 97, 160), (200, 90, 30), (255, 255, 255)} <= colours


@pytest.mark.parametrize(
    ("most", "step"), [(0, 1), (0.9, 0.2), (1, 0.2), (1.1, 0.25), (60, 20), (100, 20), (101, 25), (1_801, 500)]
)
def test_the_numbers_of_an_axis_are_round_and_few(most: float, step: float) -> None:
    assert step_of(most) == pytest.approx(step)
    assert most / step_of(most) <= 5


def test_a_rate_is_over_the_time_since_the_point_before() -> None:
    assert rates([(0.0, 0), (1.0, 50), (1.0, 50), (3.0, 60)]) == [(1.0, 50.0), (3.0, 5.0)]
    assert rates([]) == rates([(1.0, 1)]) == []


def test_a_long_line_of_rates_has_few_points() -> None:
    points = rates([(float(at), 3 * at) for at in range(1_000)])
    assert len(points) <= 50
    assert {rate for _, rate in points} == {3.0}


# ── Verdicts ──


@pytest.mark.parametrize(
    ("aim", "value", "judged", "verdict"),
    [
        (Aim(bound=0.25, at_least=True), 0.25, True, Verdict.MET),
        (Aim(bound=0.25, at_least=True), 0.24, True, Verdict.MISSED),
        (Aim(bound=2.0, at_least=False), 2.0, True, Verdict.MET),
        (Aim(bound=2.0, at_least=False), 2.1, True, Verdict.MISSED),
        (Aim(bound=2.0, at_least=False), 2.1, False, Verdict.OPEN),
        (Aim(bound=2.0, at_least=False), None, True, Verdict.OPEN),
    ],
)
def test_an_aim_is_met_missed_or_not_judged(aim: Aim, value: float | None, *, judged: bool, verdict: Verdict) -> None:
    row = Row(figure="f", aim=aim, value=value, note="", judged=judged)
    assert row.verdict is verdict
    assert verdict in row.cells()


def shot(*, successes: int, wall_s: float, server_cpu_s: float) -> Shot:
    return Shot(result=result(successes=successes, wall_s=wall_s), server_cpu_s=server_cpu_s, server_resident_bytes=1)


def test_a_limit_whose_core_was_full_is_its_rate() -> None:
    assert limit_rate(shot(successes=1000, wall_s=1.0, server_cpu_s=0.95)) == 1000


def test_a_limit_that_something_else_slowed_down_is_told_by_its_processor_time() -> None:
    assert limit_rate(shot(successes=1000, wall_s=1.0, server_cpu_s=0.5)) == 2000


def test_a_limit_that_used_too_little_time_to_measure_is_its_rate() -> None:
    assert limit_rate(shot(successes=10, wall_s=1.0, server_cpu_s=0.0)) == 10


# ── Steps ──


@pytest.mark.parametrize(
    ("found", "goal", "broke"),
    [
        (result(successes=100), Goal(), None),
        (result(successes=99, errors=1), Goal(), "1 errors"),
        (result(successes=99, errors=1), Goal(error_share=0.01), None),
        (result(successes=100, each_s=2.0), Goal(), "p99 2000 ms"),
        (result(successes=100, wall_s=2.0), Goal(), "only 50.0 per second"),
    ],
)
def test_a_step_breaks_at_errors_at_p99_and_when_it_falls_behind(found: Result, goal: Goal, broke: str | None) -> None:
    assert judge_step(100.0, found, latency(found.latencies_s), goal) == broke


# ── Proof ──


def test_what_arrived_once_is_right_with_its_cover_page() -> None:
    assert delivery_faults(["a", "b"], ["a", "b"], [kept("a", key="1"), kept("b", "cover", key="2")]) == []


def test_a_message_without_an_answer_may_have_arrived_or_not() -> None:
    assert delivery_faults(["a"], ["a", "b", "c"], [kept("a", key="1"), kept("b", key="2")]) == []


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        ([], "1 accepted, but not delivered"),
        ([kept("a", key="1"), kept("a", key="2")], "1 delivered twice"),
        ([kept("a", key="1"), kept("x", key="1")], "1 keys used twice"),
    ],
)
def test_what_is_missing_or_doubled_is_told(found: list[dict[str, Any]], fault: str) -> None:
    assert delivery_faults(["a"], ["a"], found) == [fault]


def test_a_doubled_message_without_an_answer_is_told() -> None:
    assert delivery_faults([], ["a"], [kept("a", key="1"), kept("a", key="2")]) == ["1 delivered twice"]


@pytest.mark.parametrize(("each", "expected"), [(0, 0.0), (500, 500.0)])
def test_growth_is_counted_after_warm_up(each: int, expected: float) -> None:
    # Until 5,900 of 20,000 messages it warms up, by far more than it may grow later.
    warming = [(count, 100_000_000 + 5_000 * min(count, 5_900)) for count in range(0, 20_001, 100)]
    samples = [(count, size + each * count) for count, size in warming]
    assert growth_bytes(samples) == pytest.approx(expected)


@pytest.mark.parametrize("samples", [[], [(10_000, 1)] * 50, [(count, count) for count in range(0, 9_000, 10)]])
def test_growth_is_not_told_of_few_messages_or_samples(samples: list[tuple[int, int]]) -> None:
    assert growth_bytes(samples) is None


@pytest.mark.parametrize(("gateways", "expected"), [(1, 400.0), (2, 200.0)])
def test_growth_is_that_of_one_gateway_with_each_message_done(gateways: int, expected: float) -> None:
    # First all are accepted, then all are delivered: half the work each.
    counts = [(count, 0) for count in range(0, 20_001, 200)] + [(20_000, count) for count in range(0, 20_001, 200)]
    samples = [
        Sample(
            at_s=float(at),
            accepted=accepted,
            delivered=delivered,
            resident_bytes=100_000_000 + 200 * (accepted + delivered),
            server_cpu_s=0.0,
        )
        for at, (accepted, delivered) in enumerate(counts)
    ]
    done = Soak(result=result(successes=20_000), samples=samples, gateways=gateways)
    assert done.growth_bytes == pytest.approx(expected)


def test_a_soak_tells_its_deepest_queue_and_draws_itself(tmp_path: Path) -> None:
    samples = [
        Sample(at_s=at, accepted=accepted, delivered=delivered, resident_bytes=1_000_000, server_cpu_s=at / 2)
        for at, accepted, delivered in ((0.0, 0, 0), (1.0, 90, 20), (2.0, 100, 100))
    ]
    done = Soak(result=result(successes=100), samples=samples, delivered=100, delivered_in_s=2.0)
    told = done.as_json()
    assert (told["deepestQueue"], told["deliveredPerS"], told["serverCpuMsPerMessage"]) == (70, 50.0, 10.0)
    json.dumps(told)
    draw_soak(tmp_path / "chart.png", done)
    assert (tmp_path / "chart.png").stat().st_size > 1_000


# ── Processes ──


@pytest.mark.parametrize(
    ("available", "server", "second", "others", "apart", "apart_both"),
    [
        ([0], {0}, {0}, {0}, False, False),
        ([0, 1], {1}, {0}, {0}, True, False),
        ([0, 1, 2], {1}, {2}, {0}, True, True),
        ([2, 5, 7, 9], {5}, {7}, {2, 9}, True, True),
    ],
)
def test_cores_are_dealt_out(
    available: list[int],
    server: set[int],
    second: set[int],
    others: set[int],
    *,
    apart: bool,
    apart_both: bool,
) -> None:
    cores = Cores.of(available)
    assert [cores.server, cores.second, cores.others] == [frozenset(each) for each in (server, second, others)]
    assert (cores.apart, cores.apart_both) == (apart, apart_both)


def test_a_process_that_is_gone_uses_nothing() -> None:
    gone = 2**22 + 1  # beyond the largest process id of Linux
    assert (cpu_s([gone]), resident_bytes([gone]), descendants(gone)) == (0.0, 0, [])


def test_the_processor_time_of_a_process_is_what_it_says_itself_with_all_its_threads() -> None:
    other = Thread(target=lambda: sum(range(1_000_000)))
    other.start()
    other.join()
    before_s = time.process_time()
    found_s = cpu_s([os.getpid()])
    assert before_s <= found_s <= time.process_time()
    assert cpu_s([os.getpid(), os.getpid()]) >= 2 * found_s
