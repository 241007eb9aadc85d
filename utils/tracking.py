"""`python -m utils.tracking rebase OLD_FOLDER`: let `mlflow ui` find a moved project's files."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from utils.formats.runs import rebase
from utils.schema import PROJECT, PipelineError
from utils.system.program import fail

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m utils.tracking", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("rebase", help="after the project folder was moved")
    command.add_argument("old", help="the folder the project was in before")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        changed = rebase(given.old)
    except PipelineError as error:
        return fail(str(error))
    log.info("%d locations now start with %s", changed, PROJECT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
