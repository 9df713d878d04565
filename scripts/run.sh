#!/usr/bin/env bash
# Builds Tessera and runs it with an embedded database and the demo data until Ctrl-C. As usual, settings come from
# tessera.toml in the repository's root and from TESSERA_... in the environment, except for the address, which this
# script has to know: it is TESSERA_HTTP__LISTEN, otherwise 127.0.0.1:8080.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export TESSERA_HTTP__LISTEN=${TESSERA_HTTP__LISTEN:-127.0.0.1:8080}
url=http://$TESSERA_HTTP__LISTEN
health() { curl -fsS --max-time 2 "$url/api/health" 2>/dev/null; }

if has curl && health | grep -q '"version"'; then
    say "Tessera is already running: $url"
    exit 0
fi

scripts/dev-setup.sh
say "building Tessera (the first build takes a few minutes)"
cargo build --release --locked -p tessera
tessera=${CARGO_TARGET_DIR:-target}/release/tessera

# Runs in the background: waits until the server responds, creates the demo data if there are no tickets, and prints how
# to start.
welcome() {
    # This script execs the server, so $$ is the server's process id.
    until health >/dev/null; do
        kill -0 $$ 2>/dev/null || exit 0
        sleep 0.2
    done
    "$tessera" demo || say "could not create the demo data; Tessera is running without it"
    cat >&2 <<END

Tessera is running: $url
Try:

  curl -s -H "Authorization: Bearer \$($tessera token)" $url/api/tickets

Press Ctrl-C to stop it; ./scripts/run.sh starts it again with the same data.

END
}

welcome &
exec "$tessera" serve
