#!/usr/bin/env bash
# Fuzzes a running Tessera by its committed OpenAPI document, for 60 or the given number of seconds: fails on any 5xx,
# on any answer that the document does not say, on an ERROR line in the server's log, and on a broken invariant.
#
# What the fuzzing makes must not leave this machine. Mail goes to files. Webhooks to private addresses are refused by
# the guard, and all of it runs in a network of its own, in which there is nothing but loopback. Where the system does
# not let us make one, what remains is that nobody draws the URL of a public host at random, and that the demo's end
# in .example, which resolves nowhere.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

seconds=${1:-60}
case $seconds in *[!0-9]* | '') die "takes a number of seconds" ;; esac

# In a network of our own, whose loopback has to be switched on (SIOCSIFFLAGS, IFF_UP).
loopback_up='import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh", b"lo", 1))'
own_network=(unshare --net)
[ "$(id -u)" -eq 0 ] || own_network=(unshare --net --map-current-user --keep-caps)
if [ -z "${FUZZ_ALONE:-}" ]; then
    export FUZZ_ALONE=no
    if has unshare && "${own_network[@]}" python3 -c "$loopback_up" 2>/dev/null; then
        FUZZ_ALONE=yes exec "${own_network[@]}" "$ROOT/scripts/schemathesis.sh" "$@"
    fi
    say "cannot make a network of its own: see the head of this script"
elif [ "$FUZZ_ALONE" = yes ]; then
    python3 -c "$loopback_up"
fi

schemathesis=.tools/venv/bin/schemathesis
[ -x "$schemathesis" ] || die "found no schemathesis; run scripts/dev-setup.sh"
tessera=${CARGO_TARGET_DIR:-target}/debug/tessera
[ -x "$tessera" ] || die "found no $tessera; build it: cargo build -p tessera"

# PostgreSQL's own user must be able to enter it.
work=$(mktemp -d /tmp/tessera-fuzz.XXXXXX)
chmod 755 "$work"
server=
stop() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" || true
        server=
    fi
}
trap 'stop; rm -rf "$work"' EXIT

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
export TESSERA_DATA_DIR=$work/data TESSERA_HTTP__LISTEN=127.0.0.1:$port TESSERA_GRPC__LISTEN=127.0.0.1:0
"$tessera" serve 2>"$work/log" &
server=$!
until curl -fsS --noproxy '*' --max-time 2 "$url/api/health" >/dev/null 2>&1; do
    kill -0 "$server" 2>/dev/null || { cat "$work/log" >&2; die "the server ended at once"; }
    sleep 0.2
done
"$tessera" demo
TOKEN=$("$tessera" token)
export TOKEN

failed=0
say "schemathesis for $seconds s"
# Its seed is fixed, so that two runs of the same program and document try the same.
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=scripts "$schemathesis" --config-file scripts/schemathesis.toml run docs/openapi.json --url "$url" \
    --max-time "$seconds" --seed 42 --checks all --continue-on-failure --no-color --warnings off || failed=1

stop
if grep -aE '(^|[^A-Z])ERROR([^A-Z]|$)|panicked at' "$work/log" >&2; then
    say "the server's log has ERROR lines"
    failed=1
fi
"$tessera" check || failed=1
[ "$failed" -eq 0 ] || die "see above"
say "no 5xx, no answer that the document does not say, no ERROR line, every invariant holds"
