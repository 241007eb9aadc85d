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
run python -m utils.toys --analysis bbH_tt --year 2018 --n-events "${N_EVENTS:-300000}" --shifts tauES
run python preprocess.py --config-name bbH_tt.yaml analysis=bbH_tt_tauES year=2018
run python preprocess.py --config-path configs/preprocess/prediction_data --config-name bbH_tt.yaml \
    analysis=bbH_tt_tauES year=2018
run mlflow run -e main -P n_splits=2 -P num_iterations=100 --env-manager=local .
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
artifacts = next(iter(Path("mlruns").glob(f"*/{run_id}/artifacts")), None)
if artifacts is None:
    sys.exit("The run is in the store that MLFLOW_TRACKING_URI names.")
friends = sorted(Path("data").glob(f"**/friends/{run_id}/*.root"))
pages = sorted(artifacts.glob("plots/*/*.html"))
figures = sorted(artifacts.glob("plots/*/pdf/*.pdf"))
for title, found in (("friend trees", friends), ("pages", pages), ("figures (PDF)", figures)):
    for folder in sorted({path.parent for path in found}):
        print(f"{title:14} {folder}/ ({sum(path.parent == folder for path in found)} files)")
for page in pages:
    if page.name == "report.html":
        print(f"{'report':14} {page}")
END
printf '%s\n' "All of it in the browser: .venv/bin/mlflow ui, then open the address it prints."
