"""The ports of a cluster: the same at every start, because an etcd member knows the others by theirs."""

import json
from pathlib import Path
from typing import Final

from tools.devstack import processes
from tools.devstack.processes import LocalError

SIZE: Final = 3
"""Members of each cluster: the fewest of which one may fail."""
NAMES: Final = (
    "epmd",
    *(
        f"{kind}-{number}"
        for kind in ("amqp", "distribution", "etcd", "etcd-peer", "postgres", "patroni")
        for number in range(1, SIZE + 1)
    ),
)


def keep(folder: Path) -> dict[str, int]:
    """The ports that the folder has; chosen at the first start. All are free at this moment.

    Raises:
        LocalError: Another program has taken one.
    """
    file = folder / "ports.json"
    text = processes.read_text(file)
    if not text:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(dict(zip(NAMES, processes.free_ports(len(NAMES)), strict=True)), indent=2)
        file.write_text(text)
    ports: dict[str, int] = json.loads(text)
    for name, port in ports.items():
        if not processes.is_free(port):
            message = (
                f"Port {port}, which the cluster in {folder} keeps for {name}, is taken by another program: "
                "end that, or remove the folder, with all payments in it."
            )
            raise LocalError(message)
    return ports
