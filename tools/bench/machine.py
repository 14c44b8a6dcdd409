"""The machine that produced the figures, and how busy it was with other work."""

import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import psutil

REPETITIONS = 15
_WORK = 60_000


def describe() -> dict[str, Any]:
    """Processor, memory and software."""
    memory = psutil.virtual_memory().total / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = (
        f"{cores} cores ({_processor()}), {memory:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}"
    )
    return {"text": text, "cores": cores, "memory_gib": round(memory, 1)}


def noise() -> dict[str, float]:
    """The duration of one repeated piece of work, measured while no load of ours runs; takes about 0.2 s.

    `slowest` is the slowest repetition in units of the median; `load` the load average of the last minute; `steal` the
    per cent of time that the hypervisor gave to other machines.
    """
    times = []
    for _ in range(REPETITIONS):
        began = time.perf_counter()
        sum(number * number for number in range(_WORK))
        times.append(time.perf_counter() - began)
    middle = statistics.median(times)
    return {
        "work_ms": round(middle * 1000, 2),
        "slowest": round(max(times) / middle, 2),
        "load": round(os.getloadavg()[0], 2),
        "steal": round(float(getattr(psutil.cpu_times_percent(0.1), "steal", 0.0)), 1),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
