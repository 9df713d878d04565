#!/usr/bin/env bash
# Checks proto/ and writes the Go code of it. The Rust code has a test of its own, and needs no tools: crates/tessera-grpc/src/gen.
# With --check it writes nothing, and fails when what is committed is not what it would write.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

check=false
case "${1:-}" in
    '') ;;
    --check) check=true ;;
    *) die "takes nothing or --check" ;;
esac
buf=$ROOT/.tools/venv/bin/buf
if ! [ -x "$buf" ] || ! has go; then
    die "needs Go and .tools/venv/bin/buf; run scripts/dev-setup.sh"
fi

"$buf" lint proto || die "proto/ does not keep the rules of proto/buf.yaml"

# A directory of its own, so that what no longer comes of proto/ goes, too.
work=$(mktemp -d "${TMPDIR:-/tmp}/tessera-proto.XXXXXX")
trap 'rm -rf "$work"' EXIT
generated=pkg/tessera/tesserav1
(cd integrations && "$buf" generate -o "$work")

if $check; then
    diff -r "integrations/$generated" "$work/$generated" >&2 \
        || die "integrations/$generated is not current: run scripts/proto.sh and commit it"
    say "integrations/$generated is current"
else
    rm -rf "integrations/$generated"
    cp -R "$work/$generated" "integrations/$generated"
    say "wrote integrations/$generated"
fi
