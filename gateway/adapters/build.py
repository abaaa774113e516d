"""From a configured provider to its adapter, within its limits."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from joserfc.jwk import RSAKey

from gateway.adapters.ebox import EboxAdapter, EboxSettings
from gateway.adapters.http import open_session, tls_context
from gateway.adapters.limits import CallLimits, LimitedAdapter
from gateway.adapters.print_rest import CANONICAL_STATUSES, JobSigner, PrintRestAdapter, PrintRestSettings
from gateway.config import EboxProvider, PrintRestProvider, Provider


async def build_adapter(provider: Provider, *, clock: Callable[[], datetime], sign_job: JobSigner) -> LimitedAdapter:
    """
    Return the adapter of a provider, with the keys from its files.

    Raises:
        OSError, ValueError: a key file cannot be read.
    """
    session = open_session(await asyncio.to_thread(tls_context, provider.call.ca_file))
    limits = CallLimits(concurrent_calls=provider.call.concurrency, calls_per_s=provider.call.calls_per_s)
    match provider:
        case EboxProvider():
            ebox = EboxSettings(
                connect_timeout_s=provider.call.connect_timeout_s,
                send_timeout_s=provider.call.attempt_timeout_s,
                base_url=provider.base_url,
                token_url=provider.token_url,
                audience=provider.audience,
                client_id=provider.client_id,
                key_id=provider.key_id,
                publish_path=provider.publish_path,
                search_path=provider.search_path,
                federation_url=provider.federation_url,
                partition_url=provider.partition_url,
                representative=provider.representative,
                conflict_means=provider.conflict_means,
                consent_check=provider.consent_check,
                recipients_at_once=provider.recipients_at_once,
                environment=provider.registry_environment,
            )
            key = RSAKey.import_key(await asyncio.to_thread(provider.key_file.read_bytes))
            return LimitedAdapter(EboxAdapter(ebox, session=session, key=key, clock=clock), limits)
        case PrintRestProvider():
            key_file = provider.api_key_file
            house = PrintRestSettings(
                connect_timeout_s=provider.call.connect_timeout_s,
                send_timeout_s=provider.call.attempt_timeout_s,
                base_url=provider.base_url,
                api_key=None if key_file is None else (await asyncio.to_thread(key_file.read_text)).strip(),
                api_key_header=provider.api_key_header,
                public_administration=provider.public_administration,
                envelope=provider.envelope,
                status_map={**CANONICAL_STATUSES, **provider.status_map},
            )
            return LimitedAdapter(PrintRestAdapter(house, session=session, clock=clock, sign=sign_job), limits)
