#!/usr/bin/env bash
# Every check and every test that there is.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

scripts/dev-setup.sh
has go || die "the connectors are tested with Go: see https://go.dev/doc/install"
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
say "the code made from proto/"
scripts/proto.sh --check
say "go vet, staticcheck, go test"
(
    cd integrations
    unformatted=$(gofmt -l .)
    [ -z "$unformatted" ] || die "not formatted by gofmt: $unformatted"
    go vet ./...
    go tool staticcheck ./...
    go test -race ./...
)
say "schemathesis"; cargo build --locked -p tessera; scripts/schemathesis.sh
say "cargo test";   cargo test --workspace --locked --lib --bins --tests
