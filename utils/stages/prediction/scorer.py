"""A run's models as prediction needs them: they score rows, and know what they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.columns.arrays import Floats, Integers, Mask, RowRange, UInt64
from utils.columns.audit import LeakAudit, audit_prediction, trained_on
from utils.columns.identity import group_codes
from utils.columns.pipeline import FeaturePipeline
from utils.formats.runs import Run
from utils.models import scoring
from utils.models.scoring import FoldModels
from utils.schema import (
    ConfigError,
    PredictConfig,
    PreprocessConfig,
    Recipe,
    RunError,
    alternative_samples,
    load,
    sample_name,
)
from utils.stages.prediction.places import check_places
from utils.stages.prediction.rows import InputRows, NtupleEntries, ShiftedFeatures
from utils.stages.preprocessing import reading
from utils.system.configuration_files import analysis_keys


@dataclass(frozen=True)
class Scorer:
    """A run's models and recipe; `trained` holds the identities that each model was trained on.

    `n_threads` and `memory` (bytes, None: any) are what there is for one unit of work.
    """

    run_id: str
    models: FoldModels
    recipe: Recipe
    trained: tuple[UInt64, ...] = ()
    n_threads: int = 1
    memory: int | None = None

    @cached_property
    def analysis(self) -> PreprocessConfig:
        """The configuration of the preprocessing that the training skim was made with."""
        return load(PreprocessConfig, self.recipe.analysis)

    @cached_property
    def pipeline(self) -> FeaturePipeline:
        return FeaturePipeline.from_json(self.recipe.pipeline)

    def ntuple_entries(self, entries: reading.Entries, group: str) -> NtupleEntries:
        """Return the entries of a file, of a sample in `group`, as these models take them."""
        span, features = RowRange(0, entries.info.n_entries), self.models.features
        return NtupleEntries(span, features, entries, self.pipeline, group)

    def scores(self, rows: InputRows) -> Floats:
        """Return probabilities `(n, n_classes)` of all rows, NaN where a cut removed the row."""
        scores = np.full((rows.span.size, self.models.n_classes), np.nan)
        place, features = rows.place, self._features(rows)
        if not rows.nominal.all():
            place, features = place[rows.nominal], features[rows.nominal]
        scores[place] = scoring.score(self.models, features, rows.fold[place], self.n_threads)
        return scores

    def shifted_scores(self, rows: InputRows, nominal: Floats) -> dict[str, Floats]:
        """Return what `scores` does under each shift, by suffix.

        A row whose features a shift leaves alone keeps its `nominal` scores, bit for bit, and is
        not scored again.
        """
        if not rows.shifted:
            return {}
        moved = [self._moved(rows, shifted) for shifted in rows.shifted.values()]
        matrix, places = (np.concatenate(parts) for parts in zip(*moved, strict=True))
        # All shifts at once: the rows of one are too few to fill blocks and to be shared out.
        scored = scoring.score(self.models, matrix, rows.fold[places], self.n_threads)
        ends = np.cumsum([len(place) for _, place in moved])
        found = {}
        for (suffix, of), (_, place), its in zip(
            rows.shifted.items(), moved, np.split(scored, ends[:-1]), strict=True
        ):
            found[suffix] = np.full(nominal.shape, np.nan)
            selected = rows.place[of.selected]
            found[suffix][selected] = nominal[selected]
            found[suffix][place] = its
        return found

    def _moved(
        self, rows: InputRows, shifted: ShiftedFeatures
    ) -> tuple[NDArray[np.float32], Integers]:
        """Return the features of the rows that a shift changes or admits, and their places."""
        features = self._features(rows)
        columns = {
            j: shifted.features[name]
            for j, name in enumerate(self.models.features)
            if name in shifted.features
        }
        anew = shifted.selected & ~rows.nominal
        for j, values in columns.items():
            anew |= shifted.selected & _differ(features[:, j], values)
        matrix = features[anew]
        for j, values in columns.items():
            matrix[:, j] = values[anew]
        return matrix, rows.place[anew]

    def scores_in_fold(self, rows: InputRows) -> Floats:
        """Return mean probabilities by the models that trained on each row, NaN where none did."""
        learnt = [trained_on(identities, rows.identity) for identities in self.trained]
        return scoring.score_in_fold(self.models, self._features(rows), learnt, self.n_threads)

    def _features(self, rows: InputRows) -> NDArray[np.float32]:
        """Return the models' features: of a source that gives more, the first columns."""
        return rows.features[:, : len(self.models.features)]

    def audit(self, rows: InputRows) -> LeakAudit:
        """Return the leak audit of the rows that are scored."""
        recipe, place = self.recipe, rows.place
        codes = group_codes(recipe.fold, recipe.samples, recipe.files)
        known = np.isin(rows.group[place], np.array(codes, np.uint64))
        return audit_prediction(self.trained, rows.identity[place], rows.fold[place], known)

    def trained_flag(self, rows: InputRows, name: str) -> dict[str, Mask]:
        """Return the column that flags rows the scoring model was trained on.

        Only with one fold can there be any: with several there is no such column.
        """
        if self.models.rule.n_splits > 1:
            return {}
        return {name: trained_on(self.trained[0], rows.identity)}


def _differ(one: NDArray[np.float32], other: NDArray[np.float32]) -> Mask:
    """Return where two columns differ in a bit: where they do not, scores are the same."""
    differ: Mask = one.view(np.uint32) != other.view(np.uint32)
    return differ


def models_of(run: Run) -> FoldModels:
    """Return the models of a run, compiled."""
    recipe = run.recipe
    texts = [run.model_text(i) for i in range(len(recipe.models))]
    where = f"run {run.run_id}"
    return scoring.open_models(recipe.model_kind, texts, recipe.fold, recipe.features, where)


def open_scorer(run: Run, config: PredictConfig) -> Scorer:
    """Return the models of a run with what each was trained on.

    Raises RunError where the run's audit failed or something is missing, ConfigError where `year`
    is not the run's.
    """
    recipe = run.recipe
    if not recipe.audit_passed:
        raise RunError(f"the leak audit of run {run.run_id} failed: it must not be used to predict")
    check_places(run, config)
    if not config.input_path:
        run.check_year(config.year, "give the input_path of the other year's skims")
    _check_features(run, config)
    models = models_of(run)
    if models.fingerprints != [m["fingerprint"] for m in recipe.models]:
        raise RunError(
            f"the models of run {run.run_id} are not those its recipe names: train again"
        )
    trained = tuple(run.trained_identities(i) for i in range(len(recipe.models)))
    if config.analysis_file is not None:
        recipe = replace(recipe, analysis=with_variations(recipe.analysis, config.analysis_file))
    return Scorer(run.run_id, models, recipe, trained)


def with_variations(analysis: Mapping[str, Any], named: str) -> dict[str, Any]:
    """Return a run's analysis with the variations that another declares, nothing else changed.

    Taken over are the tags of its samples too, and what it says of alternative samples.
    """
    kept = {key: analysis[key] for key in ("year", "data_root") if analysis.get(key)}
    lists = ("training_samples", "prediction_samples", "input_samples")
    found = analysis_keys(named, ("variations", "samples", *lists), kept)
    variations, described = found.get("variations") or {}, dict(found.get("samples") or {})
    for entry in (entry for key in lists for entry in found.get(key) or []):
        if isinstance(entry, Mapping) and "sample" in entry and entry.get("tags"):
            name = str(entry["sample"])
            described[name] = {**(described.get(name) or {}), "tags": entry["tags"]}
    known = {name for key in lists for name in map(sample_name, analysis.get(key) or [])}
    samples = dict(analysis.get("samples") or {})
    for name in known | samples.keys():
        own = {k: v for k, v in (samples.get(name) or {}).items() if k != "tags"}
        tags = (described.get(name) or {}).get("tags")
        if tags:
            samples[name] = {**own, "tags": tags}
        elif name in samples:
            samples[name] = own
    for name in alternative_samples(variations):
        if name in described:
            samples[name] = described[name]
    return {**analysis, "variations": variations, "samples": samples}


def _check_features(run: Run, config: PredictConfig) -> None:
    """Raise ConfigError where a composed preprocessing file has other features than the run."""
    for key in ("cont_features", "cat_features"):
        mine = list(run.recipe.analysis[key])
        for where, its in (
            (key, getattr(config, key)),
            (f"preprocess_cfg.{key}", config.preprocess_cfg.get(key)),
        ):
            if its is not None and list(its) != mine:
                raise ConfigError(
                    f"{where} is [{', '.join(map(str, its))}], but run {run.run_id} was trained "
                    f"with [{', '.join(mine)}]: leave it out, or name the run's file"
                )
