#!/usr/bin/env bash
# Bends the brain and the delivery of the core, one line at a time, and sees whether a test minds: scripts/mutants.sh [MODULE…].
# A module is lifecycle, scrip, plan or delivery, or a file of one (delivery/guard). docs/mutants.md has what came of it.
# MUTANTS_SHARD=K/N takes one part of N. A mutant costs a build of the core: this runs for hours.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

has cargo-mutants || die "cargo-mutants is not installed: cargo install --locked cargo-mutants"
[ $# -gt 0 ] || set -- lifecycle scrip plan delivery
export SQLX_OFFLINE=true
unset DATABASE_URL
# Nobody reads a trace of a mutant, and a build without one is faster.
export CARGO_PROFILE_DEV_DEBUG=0 INSTA_UPDATE=no RUST_BACKTRACE=0
# The dependencies are built once for all runs.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target/mutants/build}

mkdir -p target/mutants
source=crates/tessera-core/src
failed=()
for module in "$@"; do
    # The tests at the level where the rules of the module live; all that need no database would take longer and kill few more.
    case $module in
        lifecycle*) files=$module tests=(lifecycle:: testing::) ;;
        scrip*) files=$module tests=(scrip:: plan:: testing::) ;;
        plan*) files=$module tests=(plan:: testing::) ;;
        delivery*) files=$module tests=(delivery:: testing::) ;;
        *) die "knows lifecycle, scrip, plan and delivery, not $module" ;;
    esac
    if [ -d "$source/$files" ]; then files="$source/$files/**/*.rs"; else files="$source/$files.rs"; fi
    say "mutants of $module"
    # 3 says that some ran into the timeout, which is as good as a test that fails.
    # The baseline is the test command's business; a mutant that runs ten times as long as the tests do runs for ever.
    cargo mutants --package tessera-core --file "$files" --baseline skip --timeout 120 --jobs 1 \
        --output "target/mutants/${module//\//-}" ${MUTANTS_SHARD:+--shard "$MUTANTS_SHARD"} \
        -- --lib -- "${tests[@]}" || [ $? -eq 3 ] || failed+=("$module")
done
[ ${#failed[@]} -eq 0 ] || die "survivors in: ${failed[*]}; see target/mutants/*/mutants.out/missed.txt"
