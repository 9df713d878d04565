#!/usr/bin/env bash
# Runs each fuzz target for SECONDS (default: 60), starting from the committed seeds and with a fixed random seed:
# scripts/fuzz.sh [SECONDS]. Failing inputs are saved in fuzz/artifacts; `cargo fuzz run TARGET FILE` reproduces one.
# Inputs that cover more code are kept in fuzz/corpus, which is not committed, and reused by the next run.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "invalid argument: $1. Usage: scripts/fuzz.sh [SECONDS]"
has cargo-fuzz || die "cargo-fuzz is not installed: cargo install --locked cargo-fuzz"

export SQLX_OFFLINE=true
unset DATABASE_URL
# Lets the stable compiler instrument for coverage, so that no nightly toolchain is needed.
export RUSTC_BOOTSTRAP=1
# Sanitizers look for errors that safe Rust rules out.
options=(--sanitizer none)

cargo fetch --locked --quiet --manifest-path fuzz/Cargo.toml
cargo fuzz build "${options[@]}"
failed=()
for target in $(cargo fuzz list); do
    say "fuzzing $target for $seconds s"
    mkdir -p "fuzz/corpus/$target"
    cargo fuzz run "${options[@]}" "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -seed=1 -max_total_time="$seconds" -timeout=25 -max_len=4096 -print_final_stats=1 -verbosity=0 \
        || failed+=("$target")
done
[ ${#failed[@]} -eq 0 ] || die "failed targets: ${failed[*]}; see fuzz/artifacts"
say "no failures found"
