#!/usr/bin/env bash
# Keeps up every fault for its share of MINUTES (10 when not given), one after the other, and then asks the API whatever its
# document allows for as long, and the pure parts whatever bytes there are. Prints a line for each, with what was counted; some have more to do than their share lasts.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

minutes=${1:-10}
[[ $minutes =~ ^[1-9][0-9]*$ ]] || die "takes a number of minutes"
scripts/dev-setup.sh
export SQLX_OFFLINE=true
unset DATABASE_URL

say "building"
cargo test --quiet --locked -p tessera --test e2e --no-run
faults=$(cargo test --quiet --locked -p tessera --test e2e -- --list faults:: | grep -c ': test$')
export TESSERA_SOAK_SECONDS=$((minutes * 60 / faults))
log=$(mktemp /tmp/tessera-soak.XXXXXX)

say "$faults tests of faults, $TESSERA_SOAK_SECONDS s each; the whole output is in $log"
ended=0
# A line of counts begins with "fault", after the name of its test where that is on the same line.
cargo test --quiet --locked -p tessera --test e2e -- --test-threads=1 --nocapture faults:: 2>&1 | tee "$log" |
    sed -nu 's/^.*\(fault [^:]*: .*\)$/\1/p' || ended=1
[ "$ended" -eq 0 ] || die "a fault broke something: $log says what"

say "asking the API at random for $minutes minutes"
cargo build --quiet --locked -p tessera
scripts/schemathesis.sh $((minutes * 60))

if has cargo-fuzz; then
    scripts/fuzz.sh $((minutes * 15))
else
    say "skipped: cargo-fuzz is not installed (cargo install --locked cargo-fuzz)"
fi
say "everything held"
