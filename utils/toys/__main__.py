"""`python -m utils.toys`: write the toy ntuples of an analysis."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from utils.schema import PROJECT, ConfigError, PipelineError, PreprocessConfig, nearest
from utils.system.program import fail, typed
from utils.toys import write_ntuples
from utils.toys.physics import Channel
from utils.toys.shifts import SHIFTS

CHANNELS: dict[str, Channel] = {"tt": "tt", "em": "em"}


def input_of(analysis: str, year: str) -> tuple[list[Path], Channel]:
    """Return the input files of an analysis, for training and prediction, and its channel.

    `analysis` is a name in `configs/analysis` or a path. Raises ConfigError.
    """
    folder = PROJECT / "configs" / "analysis"
    path = Path(analysis) if analysis.endswith((".yaml", ".yml")) else folder / f"{analysis}.yaml"
    if not path.is_file():
        names = [p.stem for p in folder.glob("*.yaml")]
        raise ConfigError(f"there is no analysis '{analysis}'; {nearest(analysis, names)}")
    files: dict[Path, None] = {}
    for for_training in (True, False):
        described = DictConfig(OmegaConf.load(path))
        described["year"], described["for_training"] = year, for_training
        config = typed(described, PreprocessConfig)
        if config.channel not in CHANNELS:
            raise ConfigError(
                f"there are no toys for the channel '{config.channel}', only tt and em"
            )
        for sample in config.read_samples:
            files |= dict.fromkeys(map(Path, sample.files))
    return list(files), CHANNELS[config.channel]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the toy ntuples of an analysis; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m utils.toys", description=main.__doc__)
    parser.add_argument(
        "--analysis", default="bbH_tt", help="a name in configs/analysis, or a path"
    )
    parser.add_argument("--year", default="2018")
    parser.add_argument("--n-events", type=int, default=300_000, help="in all files together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--shifts",
        nargs="+",
        default=[],
        metavar="SHIFT",
        help="; ".join(f"{name}: {what.replace('%', '%%')}" for name, what in SHIFTS.items()),
    )
    parser.add_argument("--output", type=Path, help="default: the input_path of the analysis")
    options = parser.parse_args(arguments)
    try:
        files, channel = input_of(options.analysis, options.year)
        written = write_ntuples(
            options.output or files[0].parent,
            [path.stem for path in files],
            options.n_events,
            seed=options.seed,
            n_workers=min(4, os.cpu_count() or 1),
            channel=channel,
            shifts=options.shifts,
        )
    except PipelineError as error:
        return fail(str(error))
    sys.stdout.write(f"{len(written)} files in {options.output or files[0].parent}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
