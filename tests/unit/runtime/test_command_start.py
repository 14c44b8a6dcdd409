"""How a command begins and ends when it is interrupted, once and again within milliseconds: without a traceback."""

import signal
import subprocess
import sys
import time

import pytest

from runtime import command_start

BEGIN = "import sys, time\nfrom runtime import command_start\ncommand_start.end_on_signals()\n"
SAY_AND_WAIT = "print('here', flush=True)\ntime.sleep(600)\n"
RUN = (
    "def command():\n    print('here', flush=True)\n    time.sleep(600)\n    return 0\n"
    "command_start.run_to_end(command)\n"
)


@pytest.mark.parametrize("program", [SAY_AND_WAIT, RUN])
def test_an_interrupt_ends_a_command_without_a_traceback_however_often_it_comes(program: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN + program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.005)
    rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest) == (command_start.EXIT_INTERRUPTED, "")


def test_a_command_ends_with_its_own_status() -> None:
    program = BEGIN + "command_start.run_to_end(lambda: 3)\n"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 3
