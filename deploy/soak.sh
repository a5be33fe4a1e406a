#!/usr/bin/env bash
# The long runs behind the figures: hours, resumable (what is done is skipped), one table at the end.
#   deploy/soak.sh                the swarms on 2,000 seeds, every other scenario on 200
#   SOAK_SWARM=N  SOAK_EACH=N     other numbers of seeds, in steps of 100
#   SOAK_KILLS=N  SOAK_RATE=N     kills of a node and of a cluster's leaders; uplinks/s meanwhile
#   SOAK_DIR=folder               where results lie (default target/soak); remove it to start anew
set -uo pipefail
cd "$(dirname "$0")/.."
swarm=${SOAK_SWARM:-2000}
each=${SOAK_EACH:-200}
dir=${SOAK_DIR:-target/soak}
kills=${SOAK_KILLS:-100}
rate=${SOAK_RATE:-500}
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
for scenario in scenarios/*swarm*.toml; do seeds "$scenario" "$swarm"; done
for scenario in scenarios/*.toml; do
  [[ $scenario = *swarm* ]] || seeds "$scenario" "$each"
done
step pinned cargo sim pinned scenarios/*.toml
step sabotage cargo sim sabotage
step bench cargo sim bench
step kills env TERN_KILLS="$kills" cargo test --locked -p tests kill_nine -- --nocapture
# Release nodes on real sockets; whatever else the machine does meanwhile is in the figures.
cluster() { # name test variables...
  local name=$1 test=$2; shift 2
  step "$name" env TERN_RELEASE="$PWD/target/release/tern" "$@" \
    cargo test --locked -p tests --test main "cluster::kills::$test" -- --exact --nocapture --include-ignored
}
step release cargo build --locked --release --bin tern
cluster cluster-kills leaders_die_under_load TERN_KILLS="$kills" TERN_RATE="$rate"
cluster cluster-gone any_one_node_is_gone_for_five_seconds TERN_GONE=all
cluster cluster-join a_node_joins_many_devices_under_load TERN_DEVICES=100000 TERN_RATE=100
cluster cluster-steady-1 steady_load TERN_NODES=1 TERN_RATE="$rate" TERN_SECONDS=30
cluster cluster-steady-3 steady_load TERN_NODES=3 TERN_RATE="$rate" TERN_SECONDS=30

echo
cargo sim table "$dir/tallies" --each 100
status=$?
for log in sabotage bench; do
  echo
  # The tables, without the progress of the hours before and cargo's words.
  grep -vE ': try [0-9]+ of |^ +(Compiling|Finished|Running) ' "$dir/$log.log"
done
echo
# What real nodes did: a title, and its lines.
grep -hE '^(  [a-z]+ +|[0-9]+ (leaders|nodes)|n[0-9]+.* for |a node joins )' "$dir"/cluster-*.log
shopt -s nullglob
for failed in "$dir"/*.failed; do
  echo "FAILED  $(basename "$failed" .failed): $(tail -n 1 "${failed%.failed}.log" | cut -c1-120)"
  status=1
done
exit $status
