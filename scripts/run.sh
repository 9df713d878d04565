#!/usr/bin/env bash
# Builds Tessera, runs it with the demo on a database of its own, and stays until Ctrl-C. Settings come from a
# tessera.toml in the repository's directory and from TESSERA_... in the environment, as everywhere; but the address
# is TESSERA_HTTP__LISTEN or 127.0.0.1:8080, as this script must know it.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export TESSERA_HTTP__LISTEN=${TESSERA_HTTP__LISTEN:-127.0.0.1:8080}
url=http://$TESSERA_HTTP__LISTEN
health() { curl -fsS --max-time 2 "$url/api/health" 2>/dev/null; }

if has curl && health | grep -q '"version"'; then
    say "Tessera runs already: $url"
    exit 0
fi

scripts/dev-setup.sh
say "building Tessera (the first time takes some minutes)"
cargo build --release --locked -p tessera
tessera=${CARGO_TARGET_DIR:-target}/release/tessera

# Beside the server: waits until it answers, makes the demo where there are no tickets, and says where to look.
welcome() {
    # This script becomes the server, so its process is the server's.
    until health >/dev/null; do
        kill -0 $$ 2>/dev/null || exit 0
        sleep 0.2
    done
    "$tessera" demo || say "the demo could not be made; Tessera runs without it"
    cat >&2 <<END

Tessera runs: $url
Try:

  curl -s -H "Authorization: Bearer \$($tessera token)" $url/api/tickets

Ctrl-C stops it; ./scripts/run.sh starts it again with the same data.

END
}

welcome &
exec "$tessera" serve
