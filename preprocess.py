r"""ROOT ntuples -> HDF5 skims, for training (train and test) or prediction (one skim a sample).

python preprocess.py --config-name bbH_tt.yaml year=2018
python preprocess.py --config-path configs/preprocess/prediction_data \
        --config-name bbH_tt.yaml year=2018
"""

import logging
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from utils.schema import LABELLED, PreprocessConfig
from utils.system import program

log = logging.getLogger("preprocess")


def preprocess(config: PreprocessConfig) -> list[str]:
    """Make the skims that `config` describes, and return their paths."""
    from utils.formats import runs
    from utils.stages import preprocessing

    if config.check:
        preprocessing.check(config)
        return []
    runs.end_dead_runs()
    make = make_training_skims if config.for_training else make_prediction_skims
    return list(map(str, make(config)))


def make_training_skims(config: PreprocessConfig) -> list[Path]:
    """Read every sample once, then split, transform and write the train and the test skim.

    Samples of `role: test` become the labelled skim beside them, alternative samples one each.
    """
    from utils.stages import preprocessing
    from utils.system import engine

    plan = preprocessing.plan_training(config)
    labelled = preprocessing.plan_labelled(config, plan)
    alternatives = preprocessing.plan_alternatives(config)
    plans = [plan, *([labelled] if labelled else []), *alternatives]
    names = [*config.output_samples, *([LABELLED] if labelled else [])]
    names += [of.samples[0].name for of in alternatives]
    paths = [config.skim_file(name) for name in names]
    skims = preprocessing.training_unit(config, plans, paths)
    if preprocessing.are_done(config, plans, skims):
        preprocessing.tell_next(config, program.typed_in("analysis"), program.primary())
        return paths
    with engine.start(config.engine) as workers:
        flow, selected = preprocessing.read_all(workers, config, plan)
        of_alternatives = [preprocessing.read_all(workers, config, of) for of in alternatives]
        if labelled:
            own_flow, own = preprocessing.read_all(workers, config, labelled)
            flow = (*flow, *own_flow)
    with preprocessing.refusals_leave_nothing(config, plans):
        preprocessing.log_cut_flow(flow, config.output_folder / "cut_flow_training.csv")
        for each in (flow, *(own for own, _ in of_alternatives)):
            preprocessing.refuse_empty(each)
        preprocessing.log_missing(selected)

        nominal, marked = preprocessing.nominal_and_marked(selected.groups)
        weighted = preprocessing.with_weights(config, nominal)
        train, test = preprocessing.split_skims(config, plan, weighted)
        pipeline = preprocessing.fit(config, train)
    preprocessing.write_training_skims(config, plan, (train, test), marked, pipeline)
    for of, (_, events) in zip(alternatives, of_alternatives, strict=True):
        preprocessing.write_alternative(config, of, events, test, pipeline)
    if labelled:
        preprocessing.write_labelled_skim(config, labelled, own, pipeline)
    preprocessing.record_done(config, plans, skims)
    preprocessing.tell_next(config, program.typed_in("analysis"), program.primary())
    return paths


def make_prediction_skims(config: PreprocessConfig) -> list[Path]:
    """Stream each sample into a skim of its own, in input order, with the training's pipeline."""
    from utils.formats import runs
    from utils.stages import preprocessing
    from utils.system import engine

    tasks = preprocessing.prediction_tasks(config)
    with engine.start(config.engine) as workers:
        flow = preprocessing.write_prediction_skims(workers, tasks)
    preprocessing.log_cut_flow(flow, config.output_folder / "cut_flow_prediction.csv")
    preprocessing.save_configuration(config)
    log.info("%d skims are in %s", len(tasks), config.output_folder)
    if config.common_cut:
        log.info("What common_cut removed gets fillers in friend trees: %s", config.common_cut)
    run_id = runs.newest_of(config.analysis_name) or "RUN_ID (of a training with this pipeline)"
    command = f"{runs.uri_prefix()}python predict.py --config-name for_datacards.yaml"
    log.info("Next: %s run_id=%s", command, run_id)
    return [task.path for task in tasks]


@hydra.main(
    version_base="1.3", config_path="configs/preprocess/training_data", config_name="bbH_tt"
)
def main(cfg: DictConfig) -> None:
    program.call(preprocess, cfg, PreprocessConfig)


if __name__ == "__main__":
    sys.exit(program.run(main, PreprocessConfig, "preprocess/training_data", default="bbH_tt"))
