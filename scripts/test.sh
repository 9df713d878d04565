#!/usr/bin/env bash
# Every check and every test that there is.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

scripts/dev-setup.sh
# The queries are checked against the committed description of the database; its currency is checked below.
export SQLX_OFFLINE=true
unset DATABASE_URL

say "cargo fmt";    cargo fmt --all --check
say "cargo clippy"; cargo clippy --workspace --all-targets --locked -- -D warnings
say "cargo doc";    RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked
say "cargo deny"
if has cargo-deny; then
    # Advisories come over the network, and change without us: `cargo deny check advisories` asks for them.
    cargo deny --locked check bans licenses sources
else
    say "skipped: cargo-deny is not installed (cargo install --locked cargo-deny)"
fi
say "the description of the queries in .sqlx"
scripts/sqlx-prepare.sh --check
say "schemathesis"; cargo build --locked -p tessera; scripts/schemathesis.sh
say "cargo test";   cargo test --workspace --locked --lib --bins --tests
