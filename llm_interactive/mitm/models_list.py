"""`/v1/models` over all backends: fetched when first asked, kept for a while, and never held up by a dead provider."""

import asyncio
import logging
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import replace

from mitmproxy import http
from pydantic import SecretStr

from llm_interactive import protocols, wire_json
from llm_interactive.backends import catalog
from llm_interactive.backends.catalog import Account, ConfiguredBackend
from llm_interactive.errors import NotFound
from llm_interactive.mitm.management import json_response
from llm_interactive.protocols.base import Call, ModelEntry

logger = logging.getLogger(__name__)

FRESH = 300.0
"""Seconds a fetched list is used; after a failure it is tried again sooner."""
RETRY = 30.0
PATIENCE = 5.0
"""Seconds that an answer waits for a provider."""
LARGEST = 16 * 1024 * 1024

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ModelsList:
    def __init__(self) -> None:
        self._lists: dict[str, list[ModelEntry]] = {}
        self._due: dict[str, float] = {}
        self._asked: set[str] = set()
        """Backends that have answered or failed before: nobody waits for them."""
        self._fetching: dict[str, asyncio.Task[None]] = {}

    def forget(self) -> None:
        self._due.clear()
        self._asked.clear()

    def number_known(self, backend: str) -> int | None:
        """How many models a backend has, None where it was not asked yet."""
        return len(self._lists[backend]) if backend in self._lists else None

    async def answer(
        self, call: Call, backends: Mapping[str, ConfiguredBackend], own: Mapping[str, str]
    ) -> http.Response:
        """`own`: further names that a client may ask for, and what each is."""
        protocol = protocols.named(call.protocol)
        models = [ModelEntry(name, owner=kind) for name, kind in own.items()] + await self.of(backends)
        if call.operation == "models":
            return json_response(200, protocol.write_models(models))
        for model in models:
            if call.model in (model.id, model.id.partition(":")[2]):
                return json_response(200, protocol.write_model(model))
        raise NotFound(f"the model '{call.model}' does not exist", code="model_not_found", param="model")

    async def of(self, backends: Mapping[str, ConfiguredBackend]) -> list[ModelEntry]:
        """Every backend's models, named `backend:model`."""
        now = time.monotonic()
        waiting = []
        for backend in backends.values():
            if self._due.get(backend.name, 0.0) <= now and backend.name not in self._fetching:
                task = asyncio.create_task(self._fetch(backend))
                self._fetching[backend.name] = task
            if backend.name in self._fetching and backend.name not in self._asked:
                waiting.append(self._fetching[backend.name])
        if waiting:
            await asyncio.wait(waiting, timeout=PATIENCE)
        return [model for backend in backends.values() for model in self._lists.get(backend.name, ())]

    async def _fetch(self, backend: ConfiguredBackend) -> None:
        try:
            if backend.account is not None:
                backend = await _signed_in(backend, backend.account)
            models = await asyncio.to_thread(_ask, backend)
        except Exception as error:  # a provider can fail in any way; its models are then those known before
            logger.warning("The models of %s could not be fetched: %s", backend.name, error)
            self._due[backend.name] = time.monotonic() + RETRY
        else:
            self._lists[backend.name] = models
            self._due[backend.name] = time.monotonic() + FRESH
        finally:
            self._asked.add(backend.name)
            del self._fetching[backend.name]


async def _signed_in(backend: ConfiguredBackend, account: Account) -> ConfiguredBackend:
    if not account.is_settled:
        await account.renew()
    access = account.access()
    places = dict.fromkeys(backend.protocols, access.base_url)
    return replace(backend, protocols=places, keys=(SecretStr(access.token),))


def _ask(backend: ConfiguredBackend) -> list[ModelEntry]:
    name, base_url = next(iter(backend.protocols.items()))
    protocol = protocols.named(name)
    url = catalog.join(base_url, name, protocol.models_path())
    headers = {**backend.headers}
    if backend.keys:
        headers |= protocol.credentials(backend.keys[0].get_secret_value())
    request = urllib.request.Request(url, headers=headers)
    with _OPENER.open(request, timeout=2 * PATIENCE) as response:
        body = response.read(LARGEST)
    return [_named(model, backend.name) for model in protocol.read_models(wire_json.loads(body))]


def _named(model: ModelEntry, backend: str) -> ModelEntry:
    return ModelEntry(
        id=f"{backend}:{model.id}",
        name=model.name,
        created=model.created,
        owner=model.owner or backend,
        context=model.context,
        max_output=model.max_output,
        raw=model.raw,
        origin=model.origin,
    )
