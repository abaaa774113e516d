"""The figures of providers: what runs and waits, how the circuit stands, what the limits refused and cost."""

import asyncio
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from gateway.adapters.limits import BreakerRules, CallLimits, LimitedAdapter
from gateway.admin.provider_figures import ProviderFigures
from gateway.errors import Unreachable


class Down:
    """An adapter whose provider is away, or holds its calls until `go`."""

    def __init__(self) -> None:
        self.go: asyncio.Event | None = None
        self.begun = asyncio.Event()

    async def status(self, _handed: Any) -> Any:
        self.begun.set()
        if self.go is None:
            raise Unreachable("no connection")
        await self.go.wait()


@pytest.fixture
def adapter() -> Any:
    return Down()


@pytest.fixture
def destination(adapter: Any) -> LimitedAdapter:
    return LimitedAdapter(adapter, CallLimits(concurrent_calls=1, breaker=BreakerRules(troubles_to_open=1)))


@pytest.fixture
def registry(destination: LimitedAdapter) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(ProviderFigures({"house-a": destination}))
    return registry


def circuit(registry: CollectorRegistry) -> str:
    """Return the one state that is told."""
    states = [
        state
        for state in ("closed", "half-open", "open")
        if registry.get_sample_value("gateway_provider_circuit_ratio", {"provider": "house-a", "circuit": state}) == 1
    ]
    (state,) = states
    return state


def figure(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"gateway_provider_{name}", {"provider": "house-a", **labels})


async def test_calls_that_run_and_wait_are_told(registry: Any, adapter: Any, destination: Any) -> None:
    adapter.go = asyncio.Event()
    calls = [asyncio.create_task(destination.status(None)) for _ in range(3)]
    await adapter.begun.wait()
    assert (figure(registry, "running_calls"), figure(registry, "waiting_calls")) == (1, 2)
    adapter.go.set()
    await asyncio.gather(*calls)
    assert (figure(registry, "running_calls"), figure(registry, "waiting_calls")) == (0, 0)
    waited_s = figure(registry, "wait_seconds_total", **{"for": "place"})
    assert waited_s is not None
    assert waited_s > 0
    assert figure(registry, "wait_seconds_total", **{"for": "turn"}) == 0


async def test_a_circuit_that_opens_is_told_with_the_calls_that_it_refused(
    registry: Any, adapter: Any, destination: Any
) -> None:
    assert (circuit(registry), figure(registry, "refused_calls_total")) == ("closed", 0)
    for _ in range(3):
        with pytest.raises(Unreachable):
            await destination.status(None)
    assert (circuit(registry), figure(registry, "refused_calls_total")) == ("open", 2)


async def test_every_provider_of_a_running_gateway_is_told_from_the_start(house: Any) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{house.ops_url}/metrics") as response:
        text = await response.text()
    for provider in ("bosa", "house-a"):
        assert f'gateway_provider_running_calls{{provider="{provider}"}} 0.0' in text
        assert f'gateway_provider_circuit_ratio{{circuit="closed",provider="{provider}"}} 1.0' in text
        assert f'gateway_provider_refused_calls_total{{provider="{provider}"}} 0.0' in text
