"""What the registry shows before anything has happened, and what it says of the process."""

import ast
import asyncio
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.domain.message import Channel, Lane
from gateway.domain.status import DeliveryStatus
from gateway.errors import Kind
from gateway.telemetry import PORTAL_OUTCOMES, Metrics, ProcessFigures

WAIT_S = 20.0


def samples(registry: CollectorRegistry) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return labels and value of each sample, by name."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_counters_whose_labels_are_known_begin_at_zero() -> None:
    found = samples(Metrics().registry)
    values = {name: {tuple(labels.values()) for labels, _ in rows} for name, rows in found.items()}
    assert values["gateway_messages_accepted_total"] == {(channel, lane) for channel in Channel for lane in Lane}
    assert values["gateway_messages_refused_total"] == {(code,) for code in Kind}
    assert values["gateway_deliveries_total"] == {(channel, status) for channel in Channel for status in DeliveryStatus}
    assert values["gateway_retries_total"] == {(channel,) for channel in Channel}
    assert values["gateway_retrievals_total"] == {(outcome,) for outcome in PORTAL_OUTCOMES}
    assert values["gateway_accept_seconds_count"] == {("accepted",), ("refused",)}
    assert ("too-many-connections",) in values["gateway_handshakes_refused_total"]
    ours = [rows for name, rows in found.items() if name.endswith(("_total", "_count")) and "process" not in name]
    assert {value for rows in ours for _, value in rows} == {0.0}


def test_the_outcomes_of_visits_are_those_that_the_portal_tells(root: Path) -> None:
    told: set[str] = set()
    for path in (root / "gateway" / "portal").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(attr="on_outcome"), args=[argument]):
                    words = [each.value for each in ast.walk(argument) if isinstance(each, ast.Constant)]
                    assert words, "an outcome that is not written out cannot be known beforehand"
                    told.update(str(word) for word in words)
                case _:
                    pass
    assert told == set(PORTAL_OUTCOMES)


async def test_a_scrape_on_the_event_loop_tells_of_the_process_and_reads_no_file_there() -> None:
    registry = CollectorRegistry()
    figures = ProcessFigures()
    registry.register(figures)
    async with asyncio.timeout(WAIT_S):
        await asyncio.wrap_future(figures._reading)
    found = samples(registry)  # the loop guard fails this test when /proc is read here
    ((_, resident_bytes),) = found["gateway_process_resident_memory_bytes"]
    ((_, started_at_s),) = found["gateway_process_start_time_seconds"]
    ((_, open_files_ratio),) = found["gateway_process_open_files_ratio"]
    assert resident_bytes > 5_000_000
    assert 0 < open_files_ratio < 1
    assert 0 <= time.time() - started_at_s <= WAIT_S


def test_processor_time_is_that_of_this_process() -> None:
    registry = CollectorRegistry()
    registry.register(ProcessFigures())
    before_s = time.process_time()
    ((_, told_s),) = samples(registry)["gateway_process_cpu_seconds_total"]
    assert before_s <= told_s <= time.process_time()


def test_without_proc_the_rest_is_still_told(tmp_path: Path) -> None:
    figures = ProcessFigures(proc=tmp_path)
    figures._reading.result(WAIT_S)
    registry = CollectorRegistry()
    registry.register(figures)
    assert samples(registry).keys() == {
        "gateway_process_start_time_seconds",
        "gateway_process_cpu_seconds_total",
    }
