"""
The ops port: metrics and health, for the machine's own monitoring. It listens on loopback and knows no callers.

`GET /metrics` (Prometheus text format), `GET /health/live`, `GET /health/ready`, and nothing else.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway.admin.bounded import Bounded
from gateway.admin.readiness import Readiness
from gateway.telemetry import Metrics

_log: Final = logging.getLogger(__name__)
_REFRESH_LIMIT_S: Final = 5.0  # half of the usual scrape time-out of 10 s
_NO_STORE: Final = {hdrs.CACHE_CONTROL: "no-store"}


def build_ops_app(
    metrics: Metrics,
    readiness: Readiness,
    *,
    refresh: Callable[[], Awaitable[None]],
    refresh_limit_s: float = _REFRESH_LIMIT_S,
) -> web.Application:
    """
    Return the application of the ops port.

    `refresh` fills gauges before each scrape. When it fails or overruns, the scrape is answered with what is known, and
    `gateway_gauge_refresh_failures_total` tells.
    """
    edge = _OpsEdge(metrics, readiness, Bounded(refresh, refresh_limit_s))
    application = web.Application()
    application.router.add_get("/metrics", edge.metrics, allow_head=False)
    application.router.add_get("/health/live", edge.live, allow_head=False)
    application.router.add_get("/health/ready", edge.ready, allow_head=False)
    application.cleanup_ctx.append(edge.until_closed)
    return application


class _OpsEdge:
    def __init__(self, metrics: Metrics, readiness: Readiness, refresh: Bounded) -> None:
        self._metrics = metrics
        self._readiness = readiness
        self._refresh = refresh

    async def metrics(self, _request: web.Request) -> web.Response:
        try:
            await self._refresh.run()
        except Exception as error:  # noqa: BLE001 -- monitoring must see most when something is broken
            self._metrics.gauge_refresh_failures.inc()
            _log.warning("gauges not refreshed", extra={"error": type(error).__name__})
        text = generate_latest(self._metrics.registry)
        return web.Response(body=text, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST, **_NO_STORE})

    async def live(self, _request: web.Request) -> web.Response:
        """Answer at all: the event loop turns."""
        return web.json_response({"status": "live"}, headers=_NO_STORE)

    async def ready(self, _request: web.Request) -> web.Response:
        report = await self._readiness.report()
        body = {"ready": report.ready, "draining": report.draining, "checks": dict(report.checks)}
        return web.json_response(body, status=200 if report.ready else 503, headers=_NO_STORE)

    async def until_closed(self, _application: web.Application) -> AsyncIterator[None]:
        yield
        await self._refresh.close()
        await self._readiness.close()
