# shellcheck shell=bash
# Functions shared by the scripts. Source this file, do not run it. Changes to the root of the repository.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD

say() { printf '==> %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# Prints the directory of PostgreSQL's programs. A simplified version of Tessera's own search.
postgres_bin() {
    local dir packaged
    # Debian's directories, newest first; their names contain no spaces.
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
