"""`related-news`, which `python -m indexer` is too."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; interrupted while that is still loading, end as quietly as later."""
    try:
        from indexer.cli import commands  # here, since it takes the better part of a second
    except KeyboardInterrupt:
        sys.exit(130)
    commands.main()


if __name__ == "__main__":
    main()
