#!/usr/bin/env bash
# The long runs behind the figures: hours, resumable (what is done is skipped), one table at the end.
#   deploy/soak.sh                the swarm on 2,000 seeds, every other scenario on 200
#   SOAK_SWARM=N  SOAK_EACH=N     other numbers of seeds, in steps of 100
#   SOAK_DIR=folder               where results lie (default target/soak); remove it to start anew
set -uo pipefail
cd "$(dirname "$0")/.."
swarm=${SOAK_SWARM:-2000}
each=${SOAK_EACH:-200}
dir=${SOAK_DIR:-target/soak}
kills=${SOAK_KILLS:-100}
chunk=100
mkdir -p "$dir/tallies"

step() { # name command...
  local name=$1; shift
  if [ -f "$dir/$name.ok" ]; then return; fi
  echo "$(date +%H:%M:%S)  $name"
  local since=$SECONDS
  rm -f "$dir/$name.failed"
  if "$@" >"$dir/$name.log" 2>&1; then
    echo "$((SECONDS - since))" >"$dir/$name.ok"
  else
    echo "$((SECONDS - since))" >"$dir/$name.failed"
    tail -n 3 "$dir/$name.log" | sed 's/^/          /'
  fi
}

seeds() { # scenario end
  local name from
  name=$(basename "$1" .toml)
  for ((from = 0; from < $2; from += chunk)); do
    step "$(printf '%s-%05d' "$name" "$from")" \
      cargo sim "$1" --seeds "$from..$((from + chunk))" --keep-going --double 50 \
      --tally "$dir/tallies/$(printf '%s-%05d' "$name" "$from").json"
  done
}

step canary cargo sim canary
seeds scenarios/swarm.toml "$swarm"
for scenario in scenarios/*.toml; do
  [ "$scenario" = scenarios/swarm.toml ] || seeds "$scenario" "$each"
done
step pinned cargo sim pinned scenarios/*.toml
step sabotage cargo sim sabotage
step bench cargo sim bench
step kills env TERN_KILLS="$kills" cargo test --locked -p tests kill_nine -- --nocapture

echo
cargo sim table "$dir/tallies" --each 100
status=$?
for log in sabotage bench; do
  echo
  # The tables, without the progress of the hours before and cargo's words.
  grep -vE ': try [0-9]+ of |^ +(Compiling|Finished|Running) ' "$dir/$log.log"
done
shopt -s nullglob
for failed in "$dir"/*.failed; do
  echo "FAILED  $(basename "$failed" .failed): $(tail -n 1 "${failed%.failed}.log" | cut -c1-120)"
  status=1
done
exit $status
