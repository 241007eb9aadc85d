r"""ROOT ntuples -> HDF5 skims, for training (train and test) or prediction (one skim a sample).

python preprocess.py --config-name bbH_tt.yaml year=2018
python preprocess.py --config-path configs/preprocess/prediction_data \
        --config-name bbH_tt.yaml year=2018
"""

import logging
import sys

import hydra
from omegaconf import DictConfig

from utils.schema import PreprocessConfig
from utils.system import program

log = logging.getLogger("preprocess")


def preprocess(config: PreprocessConfig) -> None:
    """Make the skims that `config` describes."""
    from utils.formats import runs

    runs.end_dead_runs()
    if config.for_training:
        make_training_skims(config)
    else:
        make_prediction_skims(config)


def make_training_skims(config: PreprocessConfig) -> None:
    """Read every sample once, then split, transform and write the train and the test skim.

    Samples of `role: test` become the labelled skim beside them.
    """
    from utils.stages import preprocessing
    from utils.system import engine

    plan = preprocessing.plan_training(config)
    labelled = preprocessing.plan_labelled(config, plan)
    with engine.start(config.engine) as workers:
        flow, selected = preprocessing.read_all(workers, plan)
        alternatives = preprocessing.read_alternatives(workers, config)
        if labelled:
            own_flow, own = preprocessing.read_all(workers, labelled)
            flow = (*flow, *own_flow)
    preprocessing.log_cut_flow(flow, config.output_folder / "cut_flow_training.csv")
    preprocessing.refuse_empty(flow)
    preprocessing.log_missing(selected)

    nominal, marked = preprocessing.nominal_and_marked(selected.groups)
    weighted = preprocessing.with_weights(config, nominal)
    train, test = preprocessing.split_skims(config, plan, weighted)
    pipeline = preprocessing.fit(config, train)
    preprocessing.write_training_skims(config, plan, (train, test), marked, pipeline)
    preprocessing.write_alternatives(config, alternatives, test, pipeline)
    if labelled:
        preprocessing.write_labelled_skim(config, labelled, own, pipeline)
    log.info("Next: %s", preprocessing.next_command(config))


def make_prediction_skims(config: PreprocessConfig) -> None:
    """Stream each sample into a skim of its own, in input order, with the training's pipeline."""
    from utils.stages import preprocessing
    from utils.system import engine

    tasks = preprocessing.prediction_tasks(config)
    with engine.start(config.engine) as workers:
        flow = preprocessing.write_prediction_skims(workers, tasks)
    preprocessing.log_cut_flow(flow, config.output_folder / "cut_flow_prediction.csv")
    preprocessing.save_configuration(config)
    log.info("Wrote %d skims to %s", len(tasks), config.output_folder)
    if config.common_cut:
        log.info("What common_cut removed gets fillers in friend trees: %s", config.common_cut)
    log.info("Next: python predict.py --config-name for_datacards.yaml run_id=RUN_ID")


@hydra.main(
    version_base="1.3", config_path="configs/preprocess/training_data", config_name="bbH_tt"
)
def main(cfg: DictConfig) -> None:
    program.call(preprocess, cfg, PreprocessConfig)


if __name__ == "__main__":
    sys.exit(program.run(main, PreprocessConfig, "preprocess/training_data", default="bbH_tt"))
