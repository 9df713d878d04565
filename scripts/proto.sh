#!/usr/bin/env bash
# Lints proto/ and generates the Go code from it. With --check, writes nothing and fails if the committed code is out of
# date. The Rust code in crates/tessera-grpc/src/gen has its own test and needs no extra tools.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

check=false
case "${1:-}" in
    '') ;;
    --check) check=true ;;
    *) die "invalid argument: $1. Usage: scripts/proto.sh [--check]" ;;
esac
buf=$ROOT/.tools/venv/bin/buf
if ! [ -x "$buf" ] || ! has go; then
    die "Go or .tools/venv/bin/buf not found; run scripts/dev-setup.sh"
fi

"$buf" lint proto || die "proto/ violates the rules of proto/buf.yaml"

# Generate into an empty directory, so that files no longer generated from proto/ disappear.
work=$(mktemp -d "${TMPDIR:-/tmp}/tessera-proto.XXXXXX")
trap 'rm -rf "$work"' EXIT
generated=pkg/tessera/tesserav1
(cd integrations && "$buf" generate -o "$work")

if $check; then
    diff -r "integrations/$generated" "$work/$generated" >&2 \
        || die "integrations/$generated is out of date: run scripts/proto.sh and commit the result"
    say "integrations/$generated is up to date"
else
    rm -rf "integrations/$generated"
    cp -R "$work/$generated" "integrations/$generated"
    say "wrote integrations/$generated"
fi
