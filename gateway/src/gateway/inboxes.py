"""Which effects an event has had: each service is asked for its own, and may be waited for.

Connections of their own keep those who wait from taking the reads' connections.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from service_kit.http import ProblemError

from gateway.readers import ServiceAwayError, ServiceReader, path_part

MAX_WAIT: Final = 5.0
# More of them are answered without waiting.
_MAX_WAITING: Final = 400
_MAX_CONNECTIONS: Final = 500
# Of those who ask all services, which is open to everybody: writers must find room beside them.
_MAX_ASKING_ALL: Final = 40

Effect = dict[str, Any]


class Inboxes:
    """The inboxes of the services with these base URLs by name.

    Args:
        urls: base URLs by the services' names.
        timeout: seconds for an answer beyond those that the service is to wait.
    """

    def __init__(self, urls: Mapping[str, str], *, timeout: float) -> None:
        self._services = {
            name: ServiceReader(name, url, timeout=timeout, max_connections=_MAX_CONNECTIONS)
            for name, url in urls.items()
        }
        self._waiting = 0
        self._asking_all = 0

    async def effects(self, service: str, event_id: str, wait: float = 0.0) -> list[Effect]:
        """`{service, queue, processed_at}` of each effect; waits `wait` seconds for the first.

        Raises:
            ServiceAwayError: the service cannot be asked.
        """
        seconds = wait if self._waiting < _MAX_WAITING else 0.0
        self._waiting += 1
        try:
            answer = await self._services[service].fetch_object(
                f"/inbox/{path_part(event_id)}", {"wait": seconds}, wait=seconds
            )
        except ProblemError as error:
            raise ServiceAwayError(service, f"it answered {error.status}") from error
        finally:
            self._waiting -= 1
        return [{"service": service, **item} for item in answer.get("items", ())]

    async def all_effects(self, event_id: str, wait: float = 0.0) -> tuple[list[Effect], list[str]]:
        """The effects in all services in the order of their times, and the services that are away.

        Waits `wait` seconds until there is one in any service, and then asks all of them again.
        While too many others wait it asks once, at once.
        """
        if wait > 0 and self._asking_all < _MAX_ASKING_ALL:
            self._asking_all += 1
            try:
                found = await self._first(event_id, wait)
            finally:
                self._asking_all -= 1
            if found is not None:
                return found
        answers = await asyncio.gather(
            *(self._or_away(name, event_id, 0.0) for name in self._services)
        )
        return _together(dict(zip(self._services, answers, strict=True)))

    async def close(self) -> None:
        """Close the connections."""
        for service in self._services.values():
            await service.close()

    async def _first(self, event_id: str, wait: float) -> tuple[list[Effect], list[str]] | None:
        """None as soon as there is an effect anywhere; what all said if there is none in time."""
        asking = {
            name: asyncio.create_task(self._or_away(name, event_id, wait))
            for name in self._services
        }
        try:
            for answer in asyncio.as_completed(asking.values()):
                if await answer:
                    return None
        finally:
            for task in asking.values():
                task.cancel()
            await asyncio.gather(*asking.values(), return_exceptions=True)
        return _together({name: task.result() for name, task in asking.items()})

    async def _or_away(self, name: str, event_id: str, wait: float) -> list[Effect] | None:
        try:
            return await self.effects(name, event_id, wait)
        except ServiceAwayError:
            return None


def _together(answers: Mapping[str, list[Effect] | None]) -> tuple[list[Effect], list[str]]:
    effects = [effect for answer in answers.values() for effect in answer or ()]
    away = [name for name, answer in answers.items() if answer is None]
    return sorted(effects, key=lambda effect: str(effect["processed_at"])), away
