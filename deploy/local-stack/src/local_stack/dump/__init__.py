"""A portable copy of a whole stack in one file, and a stack made from it.

What a stack knows is in three places: the database, the messages that its queues still hold, and
the uploads that are not imported yet. All three are copied while no service runs, so they are of
one moment: what was taken from a queue has had its effect in the database, and what has not is
among the messages. A message that comes twice has the effect of once, as everywhere.
"""

from local_stack.dump.archive import Manifest
from local_stack.dump.errors import DumpError
from local_stack.dump.exporting import export_dump
from local_stack.dump.restoring import import_dump

__all__ = ["DumpError", "Manifest", "export_dump", "import_dump"]
