#!/usr/bin/env bash
# Fuzzes a running Tessera from its committed OpenAPI document: scripts/schemathesis.sh [SECONDS] (default: 60). Fails on
# any 5xx, any response that the document does not describe, any ERROR line in the server's log, and any violated
# invariant.
#
# Nothing that the fuzzer creates may leave this machine. Mail is written to files, the address guard rejects webhooks to
# private addresses, and everything runs in its own network namespace, which has only the loopback interface. If the
# system does not allow that, two safeguards remain: random input will not hit the URL of a public host, and the demo's
# URLs end in .example, which never resolves.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

seconds=${1:-60}
case $seconds in *[!0-9]* | '') die "invalid argument: $seconds. Usage: scripts/schemathesis.sh [SECONDS]" ;; esac

# Brings up the loopback interface in the new network namespace (SIOCSIFFLAGS, IFF_UP).
loopback_up='import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh", b"lo", 1))'
own_network=(unshare --net)
[ "$(id -u)" -eq 0 ] || own_network=(unshare --net --map-current-user --keep-caps)
if [ -z "${FUZZ_ALONE:-}" ]; then
    export FUZZ_ALONE=no
    if has unshare && "${own_network[@]}" python3 -c "$loopback_up" 2>/dev/null; then
        FUZZ_ALONE=yes exec "${own_network[@]}" "$ROOT/scripts/schemathesis.sh" "$@"
    fi
    say "cannot create a network namespace; continuing without one (see the comment at the top of this script)"
elif [ "$FUZZ_ALONE" = yes ]; then
    python3 -c "$loopback_up"
fi

schemathesis=.tools/venv/bin/schemathesis
[ -x "$schemathesis" ] || die "schemathesis not found; run scripts/dev-setup.sh"
tessera=${CARGO_TARGET_DIR:-target}/debug/tessera
[ -x "$tessera" ] || die "$tessera not found; build it: cargo build -p tessera"

# PostgreSQL's user must be able to enter this directory.
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
    kill -0 "$server" 2>/dev/null || { cat "$work/log" >&2; die "the server exited during startup"; }
    sleep 0.2
done
"$tessera" demo
TOKEN=$("$tessera" token)
export TOKEN

failed=0
say "running schemathesis for $seconds s"
# The fixed seed makes runs with the same program and document reproducible.
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=scripts "$schemathesis" --config-file scripts/schemathesis.toml run docs/openapi.json --url "$url" \
    --max-time "$seconds" --seed 42 --checks all --continue-on-failure --no-color --warnings off || failed=1

stop
if grep -aE '(^|[^A-Z])ERROR([^A-Z]|$)|panicked at' "$work/log" >&2; then
    say "the server's log contains errors"
    failed=1
fi
"$tessera" check || failed=1
[ "$failed" -eq 0 ] || die "failed; see the output above"
say "no 5xx, no undocumented response, no ERROR line, no violated invariant"
