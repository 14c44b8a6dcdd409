"""`python -m tools.documents`: write both documents, unless the change would break clients of the committed ones.

`--check` writes nothing: the exit status is 1 if a document differs from the code.
"""

import argparse
import sys

from tools.documents.files import GENERATED, breaking


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.documents", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only report whether they match the code")
    check = parser.parse_args().check
    status = 0
    for path, generate in GENERATED.items():
        name = f"contracts/{path.name}"
        if broken := breaking(path):
            status = 1
            print(f"{name} would break those who rely on it:")
            print(*(f"  {each}" for each in broken), sep="\n")
            print("  If that is meant, raise the first number of contracts.VERSION.")
        elif path.exists() and path.read_text() == generate():
            continue
        elif check:
            status = 1
            print(f"{name} is not what the code says: run `make documents`.")
        else:
            path.write_text(generate())
            print(f"{name} written")
    return status


if __name__ == "__main__":
    sys.exit(main())
