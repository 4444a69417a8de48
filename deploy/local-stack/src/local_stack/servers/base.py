"""What the three servers have in common."""

import shutil
import signal
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from local_stack.processes import ManagedProcess


class MissingProgramError(Exception):
    """A server's program is not installed. Attributes: `program`, and `package`, its package."""

    def __init__(self, program: str, package: str) -> None:
        """Say what is missing and which Debian or Ubuntu package has it."""
        self.program = program
        self.package = package
        super().__init__(
            f"{program} is not installed; install the package {package} "
            f"(on Debian and Ubuntu: apt-get install {package})."
        )


def find_program(program: str, package: str, *folders: Path) -> Path:
    """The path of a program, looked for in the folders and then on PATH."""
    for folder in folders:
        if (folder / program).exists():
            return folder / program
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        raise MissingProgramError(program, package)
    return Path(found)


class Server(ABC):
    """A server with its data in one folder. As a context manager it runs inside the block."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    start_seconds: ClassVar[float] = 60.0

    def __init__(self, folder: Path, *, owned: bool, log: Path | None, pid_file: Path | None):
        """Keep where things are. The folder is created by `start()`; the servers' own accounts must
        be able to enter its parents. `owned`: end with this process, however it ends."""
        self.folder = folder.absolute()
        self.owned = owned
        self.log = log or self.folder / "server.log"
        self.pid_file = pid_file or self.folder / "server.pid"

    @property
    @abstractmethod
    def managed(self) -> ManagedProcess:
        """The server's main process."""

    @abstractmethod
    def prepare(self) -> None:
        """Make everything that must exist before the main process starts."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether clients are served."""

    def start(self) -> None:
        """Start and wait until clients are served. Nothing happens when it runs already.

        Raises StartError, with the log's last lines, or MissingProgramError.
        """
        if not self.running:
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            self.prepare()
            self.managed.start()
        self.managed.wait_until(self.ready, self.start_seconds)

    def stop(self, seconds: float = 20.0) -> bool:
        """Shut down in an orderly way, killed after `seconds`; returns whether that was orderly."""
        return self.managed.stop(self.stop_signal, seconds)

    def kill(self) -> None:
        """SIGKILL every process of the server at once, as a crash would."""
        self.managed.kill()

    def freeze(self) -> None:
        """SIGSTOP every process of the server: connections stay open, nothing answers."""
        self.managed.freeze()

    def resume(self) -> None:
        """Go on after `freeze()`."""
        self.managed.resume()

    def restart(self) -> None:
        """Stop in an orderly way and start again, with the same data, ports and passwords."""
        self.stop()
        self.start()

    @property
    def running(self) -> bool:
        """Whether the main process is alive."""
        return self.managed.running

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the server."""
        self.stop()
