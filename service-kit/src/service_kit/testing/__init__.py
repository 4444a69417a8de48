"""Fakes and helpers for the tests of services."""

from service_kit.testing.delivery import deliver, outbox_events
from service_kit.testing.memory_broker import InMemoryBroker
from service_kit.testing.memory_store import InMemoryStore

__all__ = ["InMemoryBroker", "InMemoryStore", "deliver", "outbox_events"]
