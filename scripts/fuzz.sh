#!/usr/bin/env bash
# Tries each fuzz target for SECONDS (60 unless given), from the committed seeds and with a fixed seed: scripts/fuzz.sh [SECONDS].
# What is found lies in fuzz/artifacts; `cargo fuzz run TARGET FILE` shows it again. What covers more code is kept in
# fuzz/corpus, which is not committed, and the next run begins with it.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "takes a number of seconds"
has cargo-fuzz || die "cargo-fuzz is not installed: cargo install --locked cargo-fuzz"

export SQLX_OFFLINE=true
unset DATABASE_URL
# The stable compiler, told that it may count coverage, so that nobody needs a second toolchain.
export RUSTC_BOOTSTRAP=1
# A sanitizer would look for what safe Rust cannot do.
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
[ ${#failed[@]} -eq 0 ] || die "broken: ${failed[*]}; see fuzz/artifacts"
say "nothing found"
