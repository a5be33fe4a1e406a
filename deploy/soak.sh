#!/usr/bin/env bash
# The long runs behind the figures: hours, resumable (what is done is skipped), one table at the end.
#   deploy/soak.sh [A..B]     seeds of each scenario, 0..200 by default
#   SOAK_DIR=folder           where results lie (default target/soak); remove it to start anew
set -uo pipefail
cd "$(dirname "$0")/.."
seeds=${1:-0..200}
dir=${SOAK_DIR:-target/soak}
kills=${SOAK_KILLS:-100}
mkdir -p "$dir"

step() { # name command...
  local name=$1; shift
  if [ -f "$dir/$name.ok" ]; then echo "skip  $name (done)"; return; fi
  echo "run   $name"
  local since=$SECONDS
  if "$@" >"$dir/$name.log" 2>&1; then
    echo "$((SECONDS - since))" >"$dir/$name.ok"
  else
    echo "$((SECONDS - since))" >"$dir/$name.failed"
  fi
}

rm -f "$dir"/*.failed
for scenario in scenarios/*.toml; do
  name=$(basename "$scenario" .toml)
  step "sim-$name" cargo sim "$scenario" --seeds "$seeds"
  step "meta-$name" cargo sim meta "$scenario" --seed 1
done
step sabotage cargo sim sabotage
step kills env TERN_KILLS="$kills" cargo test --locked -p tests kill_nine -- --nocapture

printf '\n%-28s %-8s %8s  %s\n' run result seconds 'last line'
status=0
for log in "$dir"/*.log; do
  name=$(basename "$log" .log)
  if [ -f "$dir/$name.ok" ]; then result=ok; time=$(cat "$dir/$name.ok")
  else result=FAILED; time=$(cat "$dir/$name.failed"); status=1; fi
  printf '%-28s %-8s %8s  %s\n' "$name" "$result" "$time" "$(tail -n 1 "$log" | cut -c1-100)"
done
exit $status
