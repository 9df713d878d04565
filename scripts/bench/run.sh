#!/usr/bin/env bash
# Measures the figures of docs/benchmarks.md and prints them as a table: all of them, or the given ones, as in
# `run.sh P1 P2`. Starts its own PostgreSQL with its data in memory, and builds the release binary. --quick gives a rough
# result.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

bin=$(postgres_bin) || die "PostgreSQL's programs not found; run scripts/dev-setup.sh"
[ -x "$bin/pgbench" ] || die "pgbench not found in $bin; install PostgreSQL's contributed programs"
if ! has wrk; then
    if ! has apt-get || [ "$(id -u)" -ne 0 ]; then die "wrk not found; install it"; fi
    say "installing wrk"
    apt-get install -qq -y wrk >/dev/null || { apt-get update -qq && apt-get install -qq -y wrk >/dev/null; }
fi
say "building the release binary"
SQLX_OFFLINE=true cargo build --quiet --release --locked -p tessera -p tessera-core --bin tessera --example deliveries
exec python3 -B "$ROOT/scripts/bench/bench.py" --postgres "$bin" "$@"
