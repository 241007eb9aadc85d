r"""ROOT ntuples -> HDF5 skims, for training (train and test) or prediction (one skim a sample).

python preprocess.py --config-name bbH_tt.yaml year=2018
python preprocess.py --config-path configs/preprocess/prediction_data \
        --config-name bbH_tt.yaml year=2018
"""

import logging
import sys

import hydra
from omegaconf import DictConfig

from utils import program
from utils.schema import PreprocessConfig

log = logging.getLogger("preprocess")


def preprocess(config: PreprocessConfig) -> None:
    """Make the skims that `config` describes."""
    if config.for_training:
        make_training_skims(config)
    else:
        make_prediction_skims(config)


def make_training_skims(config: PreprocessConfig) -> None:
    """Read every sample once, then split, transform and write the train and the test skim."""
    from utils import engine, processing, selection, skimming

    plan = selection.plan(config, config.read_samples, unit_size=skimming.UNIT_ENTRIES)
    log.info("Reading %d entries of %d files", plan.n_entries, len(plan.trees))
    with engine.start(config.engine) as workers:
        flow, selected = skimming.read_all(workers, plan)
    skimming.log_cut_flow(flow, config.output_folder / "cut_flow_training.csv")
    skimming.refuse_empty(flow)
    skimming.log_missing(selected)

    pieces = skimming.split(config, plan, skimming.with_weights(config, selected.groups))
    pipeline = processing.fit_pipeline(
        skimming.continuous(pieces[0], config.cont_features),
        config.cont_features,
        config.scaler,
        config.pca,
        config.seed,
    )
    skimming.write_training_skims(config, plan, pieces, pipeline)
    log.info("Next: %s", skimming.next_command(config))


def make_prediction_skims(config: PreprocessConfig) -> None:
    """Stream each sample into a skim of its own, in input order, with the training's pipeline."""
    from utils import engine, processing, selection, skimming

    pipeline = processing.load_pipeline(config.pipe_file)
    skimming.check_pipeline(config, pipeline)
    tasks = [
        skimming.PredictionTask(
            config, selection.plan(config, [sample]), pipeline, config.skim_file(sample.name)
        )
        for sample in config.read_samples
    ]
    with engine.start(config.engine) as workers:
        flow = skimming.write_prediction_skims(workers, tasks)
    skimming.log_cut_flow(flow, config.output_folder / "cut_flow_prediction.csv")
    skimming.save_configuration(config)
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
