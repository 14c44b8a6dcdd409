"""Fail a test whose output or log holds a secret, and the run whose processes wrote one.

The fixtures that drop databases and purge queues search those (`tests/kit/databases.py`, the rig of the messages).
"""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.kit import canary

FOLDERS = pytest.StashKey[list[Path]]()
"""Folders where programs of this run write, besides the tests' temporary ones. Only the controller has it."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    if call.when == "teardown":
        found = [leak for title, text in report.sections for leak in canary.leaks(title, text)]
        if found:
            report.outcome = "failed"
            report.longrepr = "\n".join(["A secret was printed or logged:", *found])
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        return
    own = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # the workers' are inside
    folders = [own, *session.config.stash.get(FOLDERS, [])]
    found = canary.leaks_in_files(file for folder in folders for file in folder.rglob("*.log"))
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        assert reporter is not None
        for line in ("", "A secret was written to a log:", *found):
            reporter.write_line(line, red=True)
