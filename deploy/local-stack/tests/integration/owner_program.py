"""Starts owned servers in the folder given, prints their processes, then does what it is told.

Usage: owner_program.py FOLDER NAMES [fork]: NAMES is a comma-separated list of servers; with `fork`
a forked child that inherits every pipe outlives this program.
"""

import os
import signal
import sys
import time
from pathlib import Path

from local_stack.processes import in_parallel
from local_stack.procfs import ProcessId
from local_stack.servers import PostgresServer, RabbitServer, RedisServer, Server


def server(name: str, folder: Path) -> Server:
    match name:
        case "postgresql":
            return PostgresServer(folder / name, durable=False, remove=folder / name)
        case "rabbitmq":
            return RabbitServer(folder / name, remove=folder / name)
        case _:
            return RedisServer(folder / name, remove=folder / name)


def main() -> None:
    # A shell that runs the tests in the background has them ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(sys.argv[1])
    servers = [server(name, folder) for name in sys.argv[2].split(",")]
    failures = in_parallel({one.name: one.start for one in servers})
    if failures:
        raise SystemExit(str(failures))
    if "fork" in sys.argv and os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    pids = {process.pid for pid in folder.glob("*/*.pid") for process in read(pid)}
    sys.stdout.write(" ".join(map(str, sorted(pids))) + "\n")
    sys.stdout.flush()
    time.sleep(120)


def read(pid_file: Path) -> list[ProcessId]:
    process = ProcessId.read(pid_file)
    return [] if process is None else process.tree()


if __name__ == "__main__":
    main()
