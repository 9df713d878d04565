#!/usr/bin/env bash
# Soak test: scripts/soak.sh [MINUTES] (default: 10). Runs the fault-injection tests one after the other for MINUTES in
# total, then fuzzes the API for MINUTES, then runs each fuzz target for a quarter of MINUTES. Prints a line with counts
# for each fault. Some tests run longer than their share of the time.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

minutes=${1:-10}
[[ $minutes =~ ^[1-9][0-9]*$ ]] || die "invalid argument: $minutes. Usage: scripts/soak.sh [MINUTES]"
scripts/dev-setup.sh
export SQLX_OFFLINE=true
unset DATABASE_URL

say "building"
cargo test --quiet --locked -p tessera --test e2e --no-run
faults=$(cargo test --quiet --locked -p tessera --test e2e -- --list faults:: | grep -c ': test$')
export TESSERA_SOAK_SECONDS=$((minutes * 60 / faults))
log=$(mktemp /tmp/tessera-soak.XXXXXX)

say "running $faults fault tests for $TESSERA_SOAK_SECONDS s each; full output: $log"
ended=0
# A line of counts begins with "fault", possibly after the name of its test.
cargo test --quiet --locked -p tessera --test e2e -- --test-threads=1 --nocapture faults:: 2>&1 | tee "$log" |
    sed -nu 's/^.*\(fault [^:]*: .*\)$/\1/p' || ended=1
[ "$ended" -eq 0 ] || die "a fault test failed; see $log"

say "fuzzing the API for $minutes minutes"
cargo build --quiet --locked -p tessera
scripts/schemathesis.sh $((minutes * 60))

if has cargo-fuzz; then
    scripts/fuzz.sh $((minutes * 15))
else
    say "skipped: cargo-fuzz is not installed (cargo install --locked cargo-fuzz)"
fi
say "soak test passed"
