"""Takes a batch of events to its outcomes: prepare, claim, handle, commit; isolates what fails.

Knows nothing of the broker. An `Outage` leaves it before anything more is tried; what was committed
by then is in the inbox, so the same batch may be given again.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from moviemetric_contracts import Event

from service_kit.database import Conflict
from service_kit.outcomes import Ack, Outage, Outcome, outcome_of
from service_kit.store import Store
from service_kit.subscriptions import Subscription

log = logging.getLogger(__name__)
P = TypeVar("P")

MAX_CONFLICTS: Final = 5
# Longer than any statement may take, so that the database's own timeout speaks first.
HANDLER_TIMEOUT: Final = 120.0
PREPARE_TIMEOUT: Final = 120.0


@dataclass(frozen=True, slots=True)
class _Item(Generic[P]):
    position: int
    event: Event[Any]
    payload: P


class BatchProcessor(Generic[P]):
    """Runs one subscription's batches on a store.

    Args:
        source: the service's name, the source of what it emits.
    """

    def __init__(self, subscription: Subscription[P], store: Store, *, source: str) -> None:
        self._subscription = subscription
        self._store = store
        self._source = source

    async def process(self, events: Sequence[Event[Any]]) -> list[Outcome]:
        """One outcome for each event, in order.

        Raises:
            Outage: a dependency is away. Give the batch again later.
        """
        outcomes: list[Outcome] = [Ack()] * len(events)
        items = await self._prepare(events, outcomes)
        if items:
            await self._apply(items, outcomes)
        return outcomes

    async def _prepare(
        self, events: Sequence[Event[Any]], outcomes: list[Outcome]
    ) -> list[_Item[Any]]:
        prepare = self._subscription.prepare
        if prepare is None:
            return [_Item(position, event, event) for position, event in enumerate(events)]
        # What was done before is not asked for again; the claim below decides all the same.
        async with self._store.begin(self._source) as work:
            seen = await work.already_seen(self._subscription.queue, [e.id for e in events])
        todo = [(position, event) for position, event in enumerate(events) if event.id not in seen]
        results = await asyncio.gather(
            *(asyncio.wait_for(prepare(event), PREPARE_TIMEOUT) for _, event in todo),
            return_exceptions=True,
        )
        items: list[_Item[Any]] = []
        outage: Outage | None = None
        for (position, event), result in zip(todo, results, strict=True):
            match result:
                case Outage():
                    outage = result
                case Exception():
                    outcomes[position] = outcome_of(result)
                    self._report(event, outcomes[position], result)
                case BaseException():
                    raise result
                case _:
                    items.append(_Item(position, event, result))
        if outage is not None:
            # Keep what was fetched: it is committed now, and found in the inbox when the batch
            # comes again.
            if items:
                await self._apply(items, outcomes)
            raise outage
        return items

    async def _apply(self, items: Sequence[_Item[Any]], outcomes: list[Outcome]) -> None:
        try:
            await self._commit(items)
        except Outage:
            raise
        except Exception as error:  # noqa: BLE001 -- a handler may raise anything; it becomes an outcome
            if len(items) == 1:
                [item] = items
                outcomes[item.position] = outcome_of(error)
                self._report(item.event, outcomes[item.position], error)
                return
            middle = len(items) // 2
            await self._apply(items[:middle], outcomes)
            await self._apply(items[middle:], outcomes)

    async def _commit(self, items: Sequence[_Item[Any]]) -> None:
        for conflicts in range(MAX_CONFLICTS + 1):
            try:
                async with asyncio.timeout(HANDLER_TIMEOUT):
                    await self._commit_once(items)
            except Conflict as conflict:
                if conflicts == MAX_CONFLICTS:
                    # Never the fault of an event: dividing the batch would not help.
                    reason = f"other transactions are in the way: {conflict}"
                    raise Outage("PostgreSQL", reason) from conflict
                await asyncio.sleep(random.uniform(0.01, 0.05) * 2**conflicts)  # noqa: S311 -- jitter
            else:
                return

    async def _commit_once(self, items: Sequence[_Item[Any]]) -> None:
        async with self._store.begin(self._source) as work:
            unseen = await work.claim_unseen(
                self._subscription.queue, [item.event.id for item in items]
            )
            fresh: list[Any] = []
            for item in items:
                if item.event.id in unseen:
                    unseen.discard(item.event.id)  # the same id twice in a batch counts once
                    fresh.append(item.payload)
            if fresh:
                await self._subscription.handle(fresh, work)

    def _report(self, event: Event[Any], outcome: Outcome, error: Exception) -> None:
        log.warning(
            "an event failed",
            extra={
                "event_id": event.id,
                "event_type": event.type,
                "correlation_id": event.correlationid or event.id,
                "queue": self._subscription.queue,
                "outcome": repr(outcome),
            },
            exc_info=error if outcome_is_unforeseen(error) else None,
        )


def outcome_is_unforeseen(error: Exception) -> bool:
    """Whether the handler did not say itself what should become of the event."""
    return type(error).__module__ != "service_kit.outcomes"
