"""`python -m duologue`, and `duologue` on the PATH."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; an interrupt is a sentence also while it is still being loaded."""
    try:
        from duologue.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        sys.stderr.write("duologue: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
