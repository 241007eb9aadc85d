"""Fold-routed predictions of a run: ROOT friend trees, or tables for evaluation.

python predict.py --config-name for_datacards.yaml experiment_id=0 run_id=...
python predict.py --config-name for_evaluation.yaml experiment_id=0 run_id=...
"""

import logging
import sys

import hydra
from omegaconf import DictConfig

from utils.schema import PredictConfig
from utils.system import program

log = logging.getLogger("predict")


def predict(config: PredictConfig) -> list[str]:
    """Score the samples that `config` names with its run's models; return where the outcome is."""
    from utils.formats import runs
    from utils.results import description
    from utils.stages import prediction
    from utils.system import engine

    make_outputs = prediction.output_kind(config.kind)
    run = runs.open_run(config.run_id, config.experiment_id)
    if not config.check:
        run.mend()
    scorer = prediction.open_scorer(run, config)
    outputs = make_outputs(config, scorer)
    if config.check:
        prediction.check(config, outputs, scorer)
        return []
    with engine.start(config.engine) as workers:
        made = prediction.publish(run, config, outputs, workers)
    description.keep_current(run)
    for line in outputs.next_commands(run, runs.uri_prefix()):
        log.info("%s", line)
    return made


@hydra.main(version_base="1.3", config_path="configs/predict", config_name=None)
def main(cfg: DictConfig) -> None:
    program.call(predict, cfg, PredictConfig)


if __name__ == "__main__":
    sys.exit(program.run(main, PredictConfig, "predict", default=None))
