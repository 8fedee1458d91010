"""`related-news`, which `python -m indexer` is too."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; Ctrl-C while it is still being imported ends it as quietly as later."""
    try:
        from indexer.cli import commands  # imported here: it takes most of a second
    except KeyboardInterrupt:
        sys.exit(130)
    commands.main()


if __name__ == "__main__":
    main()
