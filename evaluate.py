"""A logged table of scored events -> metrics, figures and one report page, in the same run.

python evaluate.py experiment_id=0 run_id=... dataset=test
"""

import logging
import sys

import hydra
from omegaconf import DictConfig

from utils.schema import EvaluateConfig
from utils.system import program

log = logging.getLogger("evaluate")


def evaluate(config: EvaluateConfig) -> list[str]:
    """Evaluate the dataset that `config` names in its run, and return where the report is."""
    from utils.formats import runs
    from utils.results import description
    from utils.stages import evaluation

    run = runs.open_run(config.run_id, config.experiment_id)
    if config.check:
        evaluation.check(run, config)
        return []
    run.mend()
    unit = evaluation.unit_of(run, config)
    made = evaluation.report_of(run, config, unit)
    if made is None:
        with evaluation.papers(config) as writer:  # starts while the numbers are made
            kept = evaluation.kept_sections(run, config)
            evaluated = evaluation.evaluate_dataset(run, config, kept)
            evaluation.log_summary(evaluated)
            made = evaluation.publish(run, config, evaluated, writer, unit.made_from)
    description.keep_current(run)
    log.info("Browse and compare: %smlflow ui", runs.uri_prefix())
    return [made]


@hydra.main(version_base="1.3", config_path="configs", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    program.call(evaluate, cfg, EvaluateConfig)


if __name__ == "__main__":
    sys.exit(program.run(main, EvaluateConfig, "", default="evaluate"))
