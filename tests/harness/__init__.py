"""A whole MovieMetric of real processes, for tests and benchmarks that cross services."""

from harness.clients import Api, Management, User
from harness.live_stack import LiveStack, MakeStack
from harness.waiting import eventually

__all__ = ["Api", "LiveStack", "MakeStack", "Management", "User", "eventually"]
