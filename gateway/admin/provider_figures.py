"""What the metrics tell of each provider: calls that run and wait, the circuit, and what the limits cost."""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.adapters.limits import Circuit, LimitedAdapter

_PROVIDER: Final = ("provider",)


class ProviderFigures(Collector):
    """Reads the adapters, by the names of their providers, when the metrics are asked for."""

    def __init__(self, adapters: Mapping[str, LimitedAdapter]) -> None:
        self._adapters = adapters

    def collect(self) -> Iterator[Metric]:
        """Yield the figures of every provider."""
        running = GaugeMetricFamily("gateway_provider_running_calls", "Calls to a provider now", labels=_PROVIDER)
        waiting = GaugeMetricFamily(
            "gateway_provider_waiting_calls", "Calls that wait for a place or a turn", labels=_PROVIDER
        )
        circuit = GaugeMetricFamily(
            "gateway_provider_circuit_ratio", "1 for the state that the circuit is in", labels=("provider", "circuit")
        )
        refused = CounterMetricFamily(
            "gateway_provider_refused_calls", "Calls not made because the circuit was open", labels=_PROVIDER
        )
        waited = CounterMetricFamily(
            "gateway_provider_wait_seconds", "Time that calls waited, for a place or a turn", labels=("provider", "for")
        )
        for name, adapter in self._adapters.items():
            state, totals = adapter.state, adapter.totals
            running.add_metric((name,), state.running)
            waiting.add_metric((name,), state.waiting)
            for each in Circuit:
                circuit.add_metric((name, each), float(state.circuit is each))
            refused.add_metric((name,), totals.refused)
            waited.add_metric((name, "place"), totals.place_wait_s)
            waited.add_metric((name, "turn"), totals.turn_wait_s)
        yield from (running, waiting, circuit, refused, waited)
