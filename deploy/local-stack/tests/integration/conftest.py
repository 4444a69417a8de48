"""Stacks of daemons, which are meant to outlive who starts them, and so need somebody who does not
let them outlive the tests."""

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from local_stack.pytest_plugin import scratch_folder

GUARD = """
import os, shutil, sys
from pathlib import Path
from local_stack.settings import Home
from local_stack.stack import Stack
sys.stdin.read()
folder = Path(sys.argv[1])
for home in folder.glob("*/run"):
    Stack(folder, Home(home.parent), os.environ, say=lambda _: None).reset()
shutil.rmtree(folder)
"""


@pytest.fixture(scope="module")
def guarded_folder() -> Generator[Path]:
    """A folder; when the test run ends, however it ends, the stacks in it are taken down."""
    folder = scratch_folder()
    with subprocess.Popen(
        [sys.executable, "-c", GUARD, folder], stdin=subprocess.PIPE, start_new_session=True
    ):
        yield folder
    assert not folder.exists()
