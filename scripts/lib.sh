# shellcheck shell=bash
# What the scripts share; sourced, never run. Leaves the working directory at the root of the repository.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD

say() { printf '==> %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# The directory of PostgreSQL's programs: as Tessera itself looks for them, in short.
postgres_bin() {
    local dir packaged
    # Debian's, the newest first; the names hold no blanks.
    packaged=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -Vr)
    for dir in "$(pg_config --bindir 2>/dev/null || true)" $packaged \
        /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin /usr/pgsql-*/bin \
        "$(dirname "$(command -v postgres || true)")"; do
        if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then
            printf '%s\n' "$dir"
            return
        fi
    done
    return 1
}
