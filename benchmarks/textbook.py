"""The same analysis as a textbook would write it: the peer that the benchmarks compare with.

Plain and correct, one library call after another: whole samples as pandas frames, one model after
another, MLflow's defaults. Each stage runs as a process of its own:

    python benchmarks/textbook.py preprocess_training --analysis A.yaml --output FOLDER
    python benchmarks/textbook.py preprocess_prediction --analysis A.yaml --output FOLDER
    python benchmarks/textbook.py train --analysis A.yaml --output FOLDER
    python benchmarks/textbook.py predict_datacards --analysis A.yaml --output FOLDER
    python benchmarks/textbook.py predict_evaluation --analysis A.yaml --output FOLDER
    python benchmarks/textbook.py evaluate --analysis A.yaml --output FOLDER [--table T.csv]

The analysis file is one of `configs/analysis`, without interpolations.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import time
from pathlib import Path
from typing import Any

# Threads that spin on shared cores would slow this side down for no fault of its own.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import numpy as np
import pandas as pd
import yaml

COMPUTED = ("w_class_imbalance", "w_cp")


# --- preprocess -----------------------------------------------------------------------------------


def read(analysis: dict[str, Any], sample: str, cut: str | None) -> pd.DataFrame:
    """Return the selected events of a sample with all columns the analysis names."""
    import uproot

    names = [*analysis["cont_features"], *analysis["cat_features"], *analysis["misc_features"]]
    branches = [name for name in dict.fromkeys(names) if name not in COMPUTED]
    path = Path(analysis["input_path"]) / f"{sample}.root"
    with uproot.open(path) as file:
        tree = file[analysis["input_tree_name"]]
        events: pd.DataFrame = tree.arrays(branches, cut=cut, library="pd")
    if events.isna().any().any():
        raise ValueError(f"{sample} has missing values")
    if events.isin([np.inf, -np.inf]).any().any():
        raise ValueError(f"{sample} has infinite values")
    for name, (low, high) in analysis.get("clip", {}).items():
        events[name] = events[name].clip(low, high)
    return events


def write(analysis: dict[str, Any], events: pd.DataFrame, scaler: Any, path: Path) -> None:
    """Write one skim: a group of columns after another."""
    continuous = analysis["cont_features"]
    scaled = scaler.transform(events[continuous])
    path.unlink(missing_ok=True)
    groups = {
        "cont_features": pd.DataFrame(scaled, columns=continuous, index=events.index),
        "cat_features": events[analysis["cat_features"]],
        "misc_features": events[[c for c in analysis["misc_features"] if c in events]],
        "targets": events[["target"]],
    }
    for key, group in groups.items():
        group.to_hdf(path, key=key)


def preprocess_training(analysis: dict[str, Any], output: Path) -> None:
    """Read every process of every sample, split, scale, and write train.h5 and test.h5."""
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    parts: list[pd.DataFrame] = []
    for item in analysis["training_samples"]:
        for sample, processes in item.items():
            for process in processes.values():
                events = read(analysis, sample, f"{analysis['common_cut']} & ({process['cut']})")
                events["target"] = process["class"]
                parts.append(events)
    events = pd.concat(parts, ignore_index=True)
    train, test = train_test_split(
        events,
        train_size=analysis["train_size"],
        stratify=events["target"],
        random_state=analysis["seed"],
    )
    pipeline = Pipeline([("scaler", StandardScaler(**analysis["scaler"]))])
    pipeline.fit(train[analysis["cont_features"]])
    with open(output / "pipeline.pkl", "wb") as file:
        pickle.dump(pipeline, file)
    for name, part in (("train", train), ("test", test)):
        part = part.reset_index(drop=True)
        part["w_class_imbalance"] = len(part) / part["target"].map(part["target"].value_counts())
        write(analysis, part, pipeline, output / f"{name}.h5")


def preprocess_prediction(analysis: dict[str, Any], output: Path) -> None:
    """Read every sample without a cut, scale, and write one skim each."""
    with open(output / "pipeline.pkl", "rb") as file:
        pipeline = pickle.load(file)
    for sample in analysis["prediction_samples"]:
        events = read(analysis, sample, None)
        events["target"] = -1
        write(analysis, events, pipeline, output / f"{sample}.h5")


def read_skim(path: Path) -> pd.DataFrame:
    """Return all groups of a skim side by side."""
    keys = ("cont_features", "cat_features", "misc_features", "targets")
    return pd.concat([pd.read_hdf(path, key) for key in keys], axis=1)


# --- train ----------------------------------------------------------------------------------------


def train(analysis: dict[str, Any], output: Path) -> None:
    """Train one model after another and log each with MLflow's defaults."""
    import lightgbm as lgb
    import mlflow

    events = read_skim(output / "train.h5")
    features = analysis["training_features"]
    fold = events[analysis["xtrain_split_feature"]] % analysis["n_splits"]
    parameters = dict(analysis["model_param"])
    rounds = parameters.pop("num_iterations")
    parameters |= {
        "objective": "multiclass",
        "num_class": len(analysis["class_to_info"]),
        "verbosity": -1,
    }
    parameters.pop("early_stopping_round", None)
    loops = 0.0
    with mlflow.start_run() as run:
        mlflow.log_params(parameters)
        for i in range(analysis["n_splits"]):
            begin = time.perf_counter()
            learn, validate = events[fold != i], events[fold == i]
            sets: list[lgb.Dataset] = []
            for part in (learn, validate):
                data = lgb.Dataset(
                    part[features],
                    part["target"],
                    weight=part[analysis["weight_name"]],
                    reference=sets[0] if sets else None,
                )
                sets.append(data)
            history: dict[str, Any] = {}
            model = lgb.train(
                parameters,
                sets[0],
                num_boost_round=rounds,
                valid_sets=sets,
                valid_names=["train", "validation"],
                callbacks=[lgb.record_evaluation(history)],
            )
            loops += time.perf_counter() - begin
            for name, values in history["validation"].items():
                mlflow.log_metric(f"{name}_{i}", values[-1])
            mlflow.lightgbm.log_model(model, name=f"model_{i}")
    (output / "run.json").write_text(json.dumps({"run_id": run.info.run_id, "loops": loops}))


# --- predict --------------------------------------------------------------------------------------


def score(analysis: dict[str, Any], output: Path, events: pd.DataFrame) -> pd.DataFrame:
    """Return identity, fold and class probabilities, the events of one fold after another."""
    import mlflow

    run_id = json.loads((output / "run.json").read_text())["run_id"]
    n_splits = analysis["n_splits"]
    fold = events[analysis["xtrain_split_feature"]] % n_splits
    parts: list[pd.DataFrame] = []
    for i in range(n_splits):
        model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model_{i}")
        mine = events[fold == i]
        proba = model.predict(mine[analysis["training_features"]])
        part = mine[analysis["identity"]].copy()
        part["fold"] = i
        for k in range(proba.shape[1]):
            part[f"pred_class_{k}_proba"] = proba[:, k]
        part["pred_class"] = proba.argmax(axis=1)
        part["pred_class_proba"] = proba.max(axis=1)
        part["target"] = mine["target"]
        parts.append(part)
    return pd.concat(parts)


def predict_datacards(analysis: dict[str, Any], output: Path) -> None:
    """Write a friend tree for each sample, put into the ntuple's order by run and event."""
    import mlflow
    import ROOT
    import uproot

    run_id = json.loads((output / "run.json").read_text())["run_id"]
    for sample in analysis["prediction_samples"]:
        scored = score(analysis, output, read_skim(output / f"{sample}.h5"))
        path = Path(analysis["input_path"]) / f"{sample}.root"
        with uproot.open(path) as file:
            original = file[analysis["input_tree_name"]].arrays(analysis["identity"], library="pd")
        order = pd.MultiIndex.from_frame(original)
        scored = scored.set_index(analysis["identity"]).loc[order].reset_index()
        columns = {name: scored[name].to_numpy().copy() for name in scored}
        friend = output / f"{sample}_pred.root"
        ROOT.RDF.FromNumpy(columns).Snapshot("pred", str(friend))
        mlflow.MlflowClient().log_artifact(run_id, str(friend), "pred")


def predict_evaluation(analysis: dict[str, Any], output: Path) -> None:
    """Write the scored events of the training and the test skim as CSV."""
    import mlflow

    run_id = json.loads((output / "run.json").read_text())["run_id"]
    for name in ("train", "test"):
        scored = score(analysis, output, read_skim(output / f"{name}.h5"))
        table = output / f"{name}.csv"
        scored.to_csv(table, index=False)
        mlflow.MlflowClient().log_artifact(run_id, str(table), "pred")


# --- evaluate -------------------------------------------------------------------------------------


def evaluate(analysis: dict[str, Any], output: Path, table: Path | None = None) -> None:
    """Draw densities, confusion matrices, ROC and precision-recall curves, one page each."""
    import plotly.figure_factory as ff
    import plotly.graph_objects as go
    from sklearn import metrics

    events = pd.read_csv(table or output / "test.csv")
    classes = analysis["class_to_info"]
    names = [classes[k]["name"] for k in classes]
    counts = events["target"].value_counts()
    weight = len(events) / events["target"].map(counts)
    figures: dict[str, go.Figure] = {}
    for k, info in classes.items():
        mine = events[events["pred_class"] == k]
        by_class = [mine.loc[mine["target"] == c, f"pred_class_{k}_proba"] for c in classes]
        shown = [c for c in classes if len(by_class[c]) > 1]
        figures[f"density_{info['name']}"] = ff.create_distplot(
            [by_class[c] for c in shown],
            [names[c] for c in shown],
            bin_size=info["bin_size"],
            colors=[classes[c]["color"] for c in shown],
            show_curve=False,
            show_rug=False,
        )
    for normalize in ("true", "pred"):
        matrix = metrics.confusion_matrix(
            events["target"], events["pred_class"], sample_weight=weight, normalize=normalize
        )
        figures[f"confusion_{normalize}"] = ff.create_annotated_heatmap(
            matrix, x=names, y=names, annotation_text=np.round(matrix, 3)
        )
    roc, precision_recall = go.Figure(), go.Figure()
    numbers = {}
    for k, info in classes.items():
        true = events["target"] == k
        proba = events[f"pred_class_{k}_proba"]
        of_class = np.where(true, len(true) / true.sum(), len(true) / (~true).sum())
        false_rate, true_rate, _ = metrics.roc_curve(
            true, proba, sample_weight=of_class, drop_intermediate=False
        )
        numbers[f"roc_auc_{info['name']}"] = metrics.auc(false_rate, true_rate)
        roc.add_scatter(x=false_rate, y=true_rate, name=info["name"])
        precision, recall, _ = metrics.precision_recall_curve(true, proba, sample_weight=of_class)
        numbers[f"pr_average_prec_{info['name']}"] = metrics.average_precision_score(
            true, proba, sample_weight=of_class
        )
        precision_recall.add_scatter(x=recall, y=precision, name=info["name"])
    figures |= {"roc": roc, "precision_recall": precision_recall}
    pages = output / "plots"
    pages.mkdir(exist_ok=True)
    for name, figure in figures.items():
        figure.write_html(pages / f"{name}.html")
    (output / "metrics.json").write_text(json.dumps(numbers))


STAGES = {
    function.__name__: function
    for function in (
        preprocess_training,
        preprocess_prediction,
        train,
        predict_datacards,
        predict_evaluation,
        evaluate,
    )
}


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--analysis", type=Path, required=True, help="file of the analysis")
    parser.add_argument("--output", type=Path, required=True, help="folder of everything written")
    parser.add_argument("--table", type=Path, help="CSV for evaluate, else that of the test skim")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    analysis = yaml.safe_load(options.analysis.read_text())
    extra = {"table": options.table} if options.stage == "evaluate" else {}
    STAGES[options.stage](analysis, options.output, **extra)


if __name__ == "__main__":
    main()
