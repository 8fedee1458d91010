"""Run the real supervisor with a fake encoder: python -m tests.service.fake_server DATA_DIR [OPTIONS].

Everything else is real: the supervisor, its workers, and the process that writes snapshots. See fake_encoder.py.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from recommender.config import Settings, load_settings
from recommender.errors import RelatedNewsError
from recommender.processes import supervisor
from recommender.processes.logs import log_to_stderr
from recommender.processes.supervisor import Commands, supervise

ENCODER = (sys.executable, "-m", "tests.service.fake_encoder")


def main() -> None:
    """Serve until SIGTERM; an error of this project ends the process with one line and exit code 1."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--compact-after", type=int, default=2_000)
    parser.add_argument("--takedown-timeout-s", type=float, default=3.0)
    parser.add_argument("--log-level", default="CRITICAL")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--compact-again-s", type=float, help="Wait so long after a compaction that failed.")
    given = parser.parse_args()
    if given.compact_again_s is not None:
        supervisor._COMPACTION_RETRY_S = given.compact_again_s
    log_to_stderr(given.log_level)

    def settings() -> Settings:
        server = {"port": given.port, "workers": given.workers, "takedown_timeout_s": given.takedown_timeout_s}
        values = {"data_dir": given.data_dir, "server": server, "index": {"compact_after": given.compact_after}}
        if given.config:
            return load_settings(given.config, {**values, "log_level": given.log_level.replace("CRITICAL", "ERROR")})
        return Settings(**values, log_level=given.log_level.replace("CRITICAL", "ERROR"))

    def ready(address: str) -> None:
        print(f"serving on {address}", flush=True)

    try:
        asyncio.run(supervise(settings(), ready, settings, Commands(encoder=ENCODER)))
    except RelatedNewsError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
