"""How what a profiler saw is told: by module, without what the profiler itself costs."""

from typing import Any

from load.profiling import Overhead, calls, measure_overhead, spent

FIELDS = ("/srv/site-packages/lxml/fields.py", 1, "read")
EDGE = ("/srv/site-packages/aiohttp/edge.py", 2, "answer")
BUILT_IN = ("~", 0, "<built-in method builtins.len>")
WAITING = ("~", 0, "<method 'poll' of 'select.epoll' objects>")
STATS: dict[Any, Any] = {
    EDGE: (1, 1, 5.0, 20.0, {}),
    FIELDS: (10, 10, 8.0, 12.0, {EDGE: (10, 10, 8.0, 12.0)}),
    BUILT_IN: (30, 30, 3.0, 3.0, {FIELDS: (20, 20, 2.0, 2.0), EDGE: (10, 10, 1.0, 1.0)}),
    WAITING: (4, 4, 90.0, 90.0, {EDGE: (4, 4, 90.0, 90.0)}),
}
NONE = Overhead(called_s=0.0, caller_s=0.0)


def test_what_is_not_written_in_python_counts_for_its_caller_and_waiting_not_at_all() -> None:
    assert spent(STATS, NONE) == {"lxml": 10_000_000_000, "aiohttp": 6_000_000_000}


def test_what_the_profiler_costs_is_taken_off_whoever_was_called_and_whoever_called() -> None:
    found = spent(STATS, Overhead(called_s=0.01, caller_s=0.001))
    assert found == {"lxml": 10_000_000_000 - 320_000_000, "aiohttp": 6_000_000_000 - 130_000_000}


def test_calls_are_counted_by_module() -> None:
    assert calls(STATS) == {"aiohttp": 1, "lxml": 10, "not written in Python": 34}


def test_a_call_under_the_profiler_costs_both_sides_something() -> None:
    overhead = measure_overhead()
    assert 0 < overhead.called_s < 1e-3
    assert 0 <= overhead.caller_s < 1e-3
