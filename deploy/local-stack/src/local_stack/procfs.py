"""Processes as Linux shows them in /proc.

A pid alone does not name a process: once it has ended, its pid can go to another one. A process is
named here by its pid, its start time in clock ticks, and the boot in which that was counted.
"""

import os
import signal
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PROC = Path("/proc")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class _Stat:
    state: str
    parent: int
    cpu_ticks: int
    started: int


def _stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # the second field is the program's name in brackets and may hold spaces and brackets itself
    fields = text[text.rindex(")") + 2 :].split()
    return _Stat(
        state=fields[0],
        parent=int(fields[1]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        started=int(fields[19]),
    )


def _resident_and_shared_pages(pid: int) -> tuple[int, int]:
    try:
        fields = (_PROC / str(pid) / "statm").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    return int(fields[1]), int(fields[2])


def _boot() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process, for ever: never mistaken for a later one with the same pid."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The living process that has this pid now, or None."""
        stat = _stat(pid)
        if stat is None or stat.state in "ZX":
            return None
        return cls(pid, stat.started, _boot())

    @classmethod
    def read(cls, pid_file: Path) -> Self | None:
        """The process that a pid file names, or None when it is not alive any more."""
        try:
            pid, started, boot = pid_file.read_text().split()
            recorded = cls(int(pid), int(started), boot)
        except (FileNotFoundError, ValueError):
            return None
        return recorded if recorded.alive else None

    def write(self, pid_file: Path) -> None:
        """Write the pid file, all of it or nothing."""
        unfinished = pid_file.with_name(f"{pid_file.name}.new")
        unfinished.write_text(f"{self.pid} {self.started} {self.boot}\n")
        unfinished.replace(pid_file)

    @property
    def alive(self) -> bool:
        """Whether it still runs (a zombie does not)."""
        return ProcessId.of(self.pid) == self

    @property
    def frozen(self) -> bool:
        """Whether it is stopped by SIGSTOP."""
        stat = _stat(self.pid)
        return stat is not None and stat.state == "T" and stat.started == self.started

    @property
    def uptime(self) -> float:
        """Seconds since it was started."""
        now = float((_PROC / "uptime").read_text().split()[0])
        return max(0.0, now - self.started / _TICKS_PER_SECOND)

    def signal(self, number: signal.Signals | int) -> None:
        """Send a signal; nothing happens when the process is not alive."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def tree(self) -> "list[ProcessId]":
        """The process and all its living descendants, parents first; empty when it is not alive."""
        return [self, *descendants(self.pid)] if self.alive else []

    def environment(self) -> dict[str, str]:
        """The environment that it was started with; empty when it is not alive."""
        try:
            entries = (_PROC / str(self.pid) / "environ").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            return {}
        if not self.alive:
            return {}
        pairs = (os.fsdecode(entry).partition("=") for entry in entries)
        return {name: value for name, separator, value in pairs if separator}

    def resident_bytes(self) -> int:
        """Resident memory of the process and its descendants.

        What they share, such as PostgreSQL's buffers, counts once: as much as the largest share.
        """
        pages = [_resident_and_shared_pages(process.pid) for process in self.tree()]
        private = sum(resident - shared for resident, shared in pages)
        return (private + max((shared for _, shared in pages), default=0)) * _PAGE_BYTES

    def cpu_seconds(self) -> float:
        """Processor time that the process and its living descendants have used."""
        stats = (_stat(process.pid) for process in self.tree())
        return sum(stat.cpu_ticks for stat in stats if stat is not None) / _TICKS_PER_SECOND


def descendants(pid: int) -> list[ProcessId]:
    """All living descendants of a process, parents first."""
    boot = _boot()
    children: defaultdict[int, list[ProcessId]] = defaultdict(list)
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        stat = _stat(int(entry.name))
        if stat is not None and stat.state not in "ZX":
            children[stat.parent].append(ProcessId(int(entry.name), stat.started, boot))
    found: list[ProcessId] = []
    unseen = [pid]
    while unseen:
        for child in children[unseen.pop(0)]:
            found.append(child)
            unseen.append(child.pid)
    return found
