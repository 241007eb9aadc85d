"""Training skim -> N-fold cross-trained LightGBM models in an MLflow run.

mlflow run -e main -P n_splits=2 .
python train.py year=2018 n_splits=3
"""

import logging
import sys

import hydra
from omegaconf import DictConfig

from utils import program
from utils.schema import TrainConfig

log = logging.getLogger("train")


def train(config: TrainConfig) -> str:
    """Train the folds that `config` describes, log everything to a run, and return the run's id."""
    from utils import crosstraining, engine, recording, tracking

    skim = crosstraining.open_training_skim(config)
    data = crosstraining.load(config, skim)
    rows, audit = crosstraining.split(config, data)
    settings = crosstraining.settings_of(config, data)
    tags = recording.tags(config, skim)
    with (
        engine.start(config.engine) as workers,
        tracking.training_run(config.experiment_name, config.run_name, tags) as run,
    ):
        log.info("MLflow run %s (experiment %s)", run.run_id, run.experiment_id)
        run.log_parameters(recording.parameters(config, data))
        results = crosstraining.train(workers, config, settings, data, rows)
        recording.log_training(run, config, data, rows, audit, results)
    tracking.remember(run.run_id, run.experiment_id)
    for line in recording.next_commands(run, tracking.uri_prefix()):
        log.info("%s", line)
    return run.run_id


@hydra.main(version_base="1.3", config_path="configs/train", config_name="train")
def main(cfg: DictConfig) -> None:
    program.call(train, cfg, TrainConfig)


if __name__ == "__main__":
    sys.exit(program.run(main, TrainConfig, "train", default="train"))
