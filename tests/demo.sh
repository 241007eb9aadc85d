#!/bin/sh
# The whole chain on toy ntuples, each command echoed as one would type it. `make demo` calls this with
# the environment's python and mlflow first in PATH; it runs in the project's folder.
set -eu
cd "$(dirname "$0")/.."

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

started=$(date +%s)
run python -m utils.toys --analysis bbH_tt --year 2018 --n-events "${N_EVENTS:-300000}"
run python preprocess.py --config-name bbH_tt.yaml year=2018
run python preprocess.py --config-path configs/preprocess/prediction_data --config-name bbH_tt.yaml year=2018
run mlflow run -e main -P n_splits=2 --env-manager=local .
run_id=$(python -c 'import json; print(json.load(open("outputs/last_run.json"))["run_id"])')
run python predict.py --config-name for_evaluation.yaml year=2018 run_id="$run_id"
run python predict.py --config-name for_datacards.yaml year=2018 run_id="$run_id"
run python evaluate.py run_id="$run_id" dataset=train
run python evaluate.py run_id="$run_id" dataset=test

printf '\nDone in %s s.\n' $(($(date +%s) - started))
python - "$run_id" <<'END'
import sys
from pathlib import Path

run_id = sys.argv[1]
friends = sorted(Path("data").glob("**/*_pred.root"))
pages = sorted(Path().glob(f"mlruns/**/{run_id}/artifacts/plots/*/*.html"))
for title, found in (
    ("friend trees", friends),
    ("figures (PDF)", sorted(Path().glob(f"mlruns/**/{run_id}/artifacts/plots/*/pdf/*.pdf"))),
    ("pages (HTML)", pages),
):
    for folder in sorted({path.parent for path in found}):
        print(f"{title:14} {folder}/ ({sum(p.parent == folder for p in found)} files)")
for page in pages:
    if page.name == "report.html":
        print(f"{'report':14} {page}")
END
printf '%s\n' "To browse it all:  .venv/bin/mlflow ui   and open the address it prints."
