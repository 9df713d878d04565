#!/usr/bin/env bash
# Runs every check and every test, or only the stages that are named: `scripts/test.sh go docs`. --list prints the stages.
#
# fmt, proto and go hardly use cargo, so they run in the background while lint, docs and sqlx compile; a background stage
# writes to a log that is printed when the stage ends. api and rust measure a running server, so they run alone, last.
# After a failure no other stage starts; one that is already running finishes.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

list() {
    cat <<'END'
fmt     formatting: cargo fmt, gofmt
proto   lint of proto/, and whether the Go code generated from it is up to date
go      the connectors and the SDK: go vet, staticcheck, go test
lint    cargo clippy, and cargo deny if it is installed
docs    cargo doc; without the stage rust also the tests of the pages
sqlx    whether .sqlx, the description of the queries, is up to date
api     fuzzes a running server by its OpenAPI document for 60 s
rust    cargo test, including the end-to-end tests
END
}

stage_fmt() {
    cargo fmt --all --check
    local unformatted
    unformatted=$(cd integrations && gofmt -l .)
    [ -z "$unformatted" ] || die "not formatted by gofmt, in integrations/: $unformatted"
}

stage_proto() {
    scripts/proto.sh --check
}

stage_go() {
    cd integrations
    go vet ./...
    go tool staticcheck ./...
    go test -race ./...
}

stage_lint() {
    if has cargo-deny; then
        # Advisories come over the network and change without us: `cargo deny check advisories` checks them.
        cargo deny --locked check bans licenses sources
    else
        say "skipped: cargo-deny is not installed (cargo install --locked cargo-deny)"
    fi
    cargo clippy --workspace --all-targets --locked -- -D warnings
}

stage_docs() {
    RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked
    # The stage rust runs these, too.
    selected rust || cargo test --workspace --locked --test e2e -- tidy:: pages::
}

stage_sqlx() {
    scripts/sqlx-prepare.sh --check
}

stage_api() {
    cargo build --locked -p tessera
    scripts/schemathesis.sh
}

stage_rust() {
    cargo test --workspace --locked --lib --bins --tests
}

# Whether this run includes one of the given stages.
selected() {
    local stage
    for stage in "$@"; do
        case " $stages " in *" $stage "*) return 0 ;; esac
    done
    return 1
}

# Whether a stage is to start: it was asked for, and nothing has failed yet.
starts() { selected "$1" && [ ! -s "$work/failed" ]; }

# Records how a stage ended: its name, its exit status, and when it started.
ended() {
    local result=ok seconds=$((SECONDS - $3))
    if [ "$2" -ne 0 ]; then
        result=FAILED
        echo "$1" >>"$work/failed"
    fi
    printf '%-6s %4d s  %s\n' "$1" "$seconds" "$result" >>"$work/times"
    say "$1: $result after $seconds s"
}

# Runs stages one after the other, with their output on the terminal, and keeps a copy of their standard output.
in_front() {
    local stage started status
    for stage in "$@"; do
        starts "$stage" || continue
        say "$stage"
        started=$SECONDS status=0
        # A process group for each stage (set -m), so that it can be killed with all that it started.
        set -m
        { (set -e; "stage_$stage") | tee "$work/$stage.log"; } </dev/null &
        front=$!
        set +m
        wait "$front" || status=$?
        front=
        ended "$stage" "$status" "$started"
    done
}

# Runs stages one after the other, each with its output in a log that is printed when the stage has ended.
in_background() {
    local stage started status
    for stage in "$@"; do
        starts "$stage" || continue
        started=$SECONDS
        # Not `|| status=$?`, which would switch off the stage's own set -e.
        set +e
        (set -e; "stage_$stage") >"$work/$stage.log" 2>&1
        status=$?
        set -e
        say "$stage (ran in the background)"
        cat "$work/$stage.log"
        ended "$stage" "$status" "$started"
    done
}

# Ends what still runs, and removes the logs.
stop() {
    local group
    for group in $front $background; do
        kill -TERM -- "-$group" 2>/dev/null || true
    done
    wait
    rm -rf "$work"
}

all=$(list | cut -d ' ' -f 1 | tr '\n' ' ')
stages=$all
case "${1:-}" in
    '') ;;
    --list) list; exit ;;
    -h | --help) printf 'Usage: scripts/test.sh [STAGE...]; without a stage, all of them run:\n\n%s\n' "$(list)"; exit ;;
    *)
        for stage in "$@"; do
            case " $all " in *" $stage "*) ;; *) die "unknown stage '$stage'; the stages are: $all" ;; esac
        done
        stages=$*
        ;;
esac

work=$(mktemp -d "${TMPDIR:-/tmp}/tessera-test.XXXXXX")
front='' background=''
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

scripts/dev-setup.sh
has go || die "found no Go toolchain, which the tests of the connectors need: see https://go.dev/doc/install"
# Builds use the committed description of the queries; the stage sqlx checks that it is up to date.
export SQLX_OFFLINE=true
unset DATABASE_URL
printf '%-6s %4d s  ok\n' setup "$SECONDS" >"$work/times"

if selected fmt proto go && selected lint docs sqlx; then
    set -m
    in_background fmt proto go </dev/null &
    background=$!
    set +m
    in_front lint docs sqlx
    wait "$background" || true
    background=
else
    in_front fmt proto go lint docs sqlx
fi
in_front api rust

say "time by stage ($SECONDS s in all)"
cat "$work/times"
if [ -s "$work/failed" ]; then
    failed=$(tr '\n' ' ' <"$work/failed")
    for stage in $failed; do
        [ ! -s "$work/$stage.log" ] || { say "the end of the output of $stage"; tail -n 30 "$work/$stage.log"; }
    done
    die "failed: $failed"
fi
# Last, the results as the test runners report them; the output above is long.
for stage in go rust; do
    selected "$stage" || continue
    say "results of $stage"
    grep -E '^(ok|FAIL)[[:space:]]|^test result:' "$work/$stage.log" || true
done
