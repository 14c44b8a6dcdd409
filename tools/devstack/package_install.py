"""Installs a server by the distribution's package manager, without starting the system's own one."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tools.devstack import processes
from tools.devstack.processes import LocalError

POLICY: Final = Path("/usr/sbin/policy-rc.d")


async def by_apt(package: str, on_progress: Callable[[str], object]) -> bool:
    """Installs the package; False where that is impossible.

    Raises:
        LocalError: apt-get failed; shows its last words.
    """
    if shutil.which("apt-get") is None:
        return False
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if as_root and (shutil.which("sudo") is None or (await processes.run([*as_root, "true"]))[0]):
        return False
    apt = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    on_progress(f"installing {package} by apt-get")
    await processes.run([*apt, "update"])
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "install"
        script.write_text(_INSTALL)
        status, output = await processes.run([*as_root, "sh", script, str(POLICY), package])
    if status:
        message = f"apt-get could not install {package}: {output.strip()[-600:]}"
        raise LocalError(message)
    return True


# Debian starts a service when its package is configured, unless policy-rc.d exits 101; an existing one is restored.
# The system's server must not start at the next boot either: we install it only for our private one.
_INSTALL: Final = """
set -e
policy=$1 package=$2
[ ! -e "$policy" ] || mv "$policy" "$policy.kept-by-bookticket"
back() { rm -f "$policy"; [ ! -e "$policy.kept-by-bookticket" ] || mv "$policy.kept-by-bookticket" "$policy"; }
trap back EXIT
trap 'exit 143' INT TERM HUP
printf '#!/bin/sh\\nexit 101\\n' > "$policy"
chmod 755 "$policy"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq -y -o DPkg::Lock::Timeout=120 install --no-install-recommends "$package" < /dev/null
if command -v systemctl > /dev/null; then systemctl disable "${package%-server}" "$package" > /dev/null 2>&1 || true; fi
"""
