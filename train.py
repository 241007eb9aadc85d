"""Training skim -> N-fold cross-trained models in an MLflow run.

mlflow run -e main -P n_splits=2 .
python train.py year=2018 n_splits=3
python train.py resume=RUN_ID
python train.py -m year=2018 model_param.max_depth=3,4,5
"""

import logging
import sys
from collections.abc import Sequence

import hydra
from omegaconf import DictConfig

from utils.schema import TrainConfig
from utils.system import program

log = logging.getLogger("train")


def train(config: TrainConfig) -> list[str]:
    """Train the folds that `config` describes, log everything to a run, and return the run's id."""
    from utils.formats import runs
    from utils.results import description
    from utils.stages import training
    from utils.system import engine

    if config.check:
        training.check(config)
        return []
    with training.keeping(config, program.typed_keys()) as kept:
        config = kept.config
        skim = training.open_training_skim(config)
        data = training.load_training_set(config, skim)
        rows, audit = training.split_rows(config, data)
        settings = training.settings_of(config, data)
        name, tags = training.run_name(config), training.tags(config, skim)
        with (
            engine.start(config.engine) as workers,
            training.folds_training(workers, config, settings, data, rows, kept) as folds,
            runs.training_run(config.experiment_name, name, tags, kept.run_id) as run,
        ):
            kept.of_run(run)
            log.info("MLflow run %s (experiment %s)", run.run_id, run.experiment_id)
            training.log_training(run, config, data, rows, audit, folds, workers.cores)
    description.keep_current(runs.opened_run(run))
    kept.drop()
    analysis_name = skim.metadata["config"]["analysis_name"]
    runs.remember(run.run_id, run.experiment_id, training.places(config), analysis_name)
    for line in training.next_commands(run, runs.uri_prefix()):
        log.info("%s", line)
    return [run.run_id]


def ranked(run_ids: Sequence[str]) -> Sequence[str]:
    """Log a table of the runs of a multirun, and return their ids, the best first."""
    from utils.stages import training

    return training.ranked(run_ids)


@hydra.main(version_base="1.3", config_path="configs/train", config_name="train")
def main(cfg: DictConfig) -> None:
    program.call(train, cfg, TrainConfig)


if __name__ == "__main__":
    sys.exit(program.run(main, TrainConfig, "train", default="train", ranked=ranked))
