"""Three etcd members, in which Patroni keeps who is the primary, with `deploy/ha/etcd.yml`."""

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from tools.devstack import package_install, processes
from tools.devstack.cluster.cluster_ports import SIZE
from tools.devstack.processes import LocalError
from tools.devstack.stack_settings import CHECKOUT

CONFIGURATION: Final = CHECKOUT / "deploy" / "ha" / "etcd.yml"


async def find_or_install(on_progress: Callable[[str], object] = str) -> Path:
    """The etcd of this machine.

    Raises:
        LocalError: There is none, and it cannot be installed.
    """
    if shutil.which("etcd") is None:
        await package_install.by_apt("etcd-server", on_progress)
    found = shutil.which("etcd")
    if found is None:
        message = (
            "A cluster needs etcd, which this cannot install here: apt-get install etcd-server, or brew install etcd."
        )
        raise LocalError(message)
    return Path(found)


@dataclass(frozen=True, kw_only=True)
class EtcdMembers:
    """The members below `folder`; `spawn` starts one, also again after its end."""

    program: Path
    folder: Path
    logs: Path
    ports: dict[str, int]
    mark: str

    @property
    def names(self) -> list[str]:
        return [f"etcd-{number}" for number in range(1, SIZE + 1)]

    @property
    def hosts(self) -> list[str]:
        return [f"127.0.0.1:{self.ports[name]}" for name in self.names]

    def spawn(self, name: str) -> int:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "etcd.yml"
        file.write_text(json.dumps(self._configuration(name), indent=2))
        return processes.spawn(
            [self.program, "--config-file", file],
            env={"PATH": str(self.program.parent), "BOOKTICKET_FOLDER": self.mark},
            log=self.logs / f"{name}.log",
            pid_file=folder / "etcd.pid",
            dies_with_us=signal.SIGTERM,
        )

    def _configuration(self, name: str) -> dict[str, object]:
        """The deployed file with this member's own name and addresses; JSON is YAML."""
        client, peer = (f"http://127.0.0.1:{self.ports[each]}" for each in (name, self._peer(name)))
        every = (f"{each}=http://127.0.0.1:{self.ports[self._peer(each)]}" for each in self.names)
        file: dict[str, object] = yaml.safe_load(CONFIGURATION.read_text())
        return file | {
            "name": name,
            "data-dir": str(self.folder / name / "data"),
            "initial-cluster": ",".join(every),
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "listen-client-urls": client,
            "advertise-client-urls": client,
        }

    def _peer(self, name: str) -> str:
        return name.replace("etcd", "etcd-peer")
