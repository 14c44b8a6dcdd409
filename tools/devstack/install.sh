#!/bin/sh
# Makes .venv with exactly what uv.lock says. The Makefile calls it when pyproject.toml or uv.lock has changed.
set -eu
cd "$(dirname "$0")/../.."

UV=0.13.9

python=
for candidate in python3.13 python3.12 python3.11 python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$(command -v "$candidate")
        break
    fi
done
if [ -z "$python" ]; then
    echo "Python 3.11 or later is needed, and there is none on the PATH." >&2
    exit 1
fi

echo "Installing the dependencies into .venv (once, about half a minute) ..."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
trap 'exit 130' INT TERM HUP

# uv is needed for this only, so it stays nowhere. Debian splits venv and pip from Python: either will do.
if "$python" -m pip --version >/dev/null 2>&1; then
    "$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
        --target "$tools" "uv==$UV"
    uv=$tools/bin/uv
elif "$python" -c 'import ensurepip' 2>/dev/null; then
    "$python" -m venv "$tools/venv"
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check "uv==$UV"
    uv=$tools/venv/bin/uv
elif command -v uv >/dev/null; then
    uv=uv
else
    echo "$python has neither pip nor venv: install one (Debian/Ubuntu: apt-get install python3-venv)." >&2
    exit 1
fi

# Compiled once here, or every process would compile anew where Python is told to write no bytecode.
"$uv" sync --quiet --frozen --all-extras --all-groups --compile-bytecode --no-managed-python --python "$python"
touch .venv/.installed
