#!/usr/bin/env bash
# Mutation testing for the core: mutates one line at a time and checks that a test fails. scripts/mutants.sh [MODULE…]
# A module is lifecycle, scrip, plan or delivery, or a file of one (delivery/guard). docs/mutants.md has the results.
# MUTANTS_SHARD=K/N runs one of N parts. Each mutant needs a build of the core, so this takes hours.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

has cargo-mutants || die "cargo-mutants is not installed: cargo install --locked cargo-mutants"
[ $# -gt 0 ] || set -- lifecycle scrip plan delivery
export SQLX_OFFLINE=true
unset DATABASE_URL
# Backtraces of mutants are not needed, and builds without debug information are faster.
export CARGO_PROFILE_DEV_DEBUG=0 INSTA_UPDATE=no RUST_BACKTRACE=0
# Builds the dependencies once for all runs.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target/mutants/build}

mkdir -p target/mutants
source=crates/tessera-core/src
failed=()
for module in "$@"; do
    # Only the tests closest to the module: running every test that needs no database takes longer and kills few more
    # mutants.
    case $module in
        lifecycle*) files=$module tests=(lifecycle:: testing::) ;;
        scrip*) files=$module tests=(scrip:: plan:: testing::) ;;
        plan*) files=$module tests=(plan:: testing::) ;;
        delivery*) files=$module tests=(delivery:: testing::) ;;
        *) die "unknown module $module; use lifecycle, scrip, plan or delivery, or a file of one" ;;
    esac
    if [ -d "$source/$files" ]; then files="$source/$files/**/*.rs"; else files="$source/$files.rs"; fi
    say "testing mutants of $module"
    # Exit code 3 means that some mutants timed out, which counts as caught. The timeout is ten times the duration of the
    # tests. The baseline is skipped, because scripts/test.sh covers it.
    cargo mutants --package tessera-core --file "$files" --baseline skip --timeout 120 --jobs 1 \
        --output "target/mutants/${module//\//-}" ${MUTANTS_SHARD:+--shard "$MUTANTS_SHARD"} \
        -- --lib -- "${tests[@]}" || [ $? -eq 3 ] || failed+=("$module")
done
[ ${#failed[@]} -eq 0 ] || die "mutants survived in: ${failed[*]}; see target/mutants/*/mutants.out/missed.txt"
