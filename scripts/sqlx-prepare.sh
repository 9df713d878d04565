#!/usr/bin/env bash
# Writes .sqlx, the description of every query, from a fresh database with all migrations, so that builds need no
# database. With --check, writes nothing and fails if the committed description is out of date.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

check=false
case "${1:-}" in
    '') ;;
    --check) check=true ;;
    *) die "invalid argument: $1. Usage: scripts/sqlx-prepare.sh [--check]" ;;
esac
bin=$(postgres_bin) || die "PostgreSQL's programs not found; run scripts/dev-setup.sh"

# PostgreSQL's user must be able to enter this directory.
work=$(mktemp -d /tmp/tessera-sqlx.XXXXXX)
chmod 755 "$work"
mkdir -m 700 "$work/data" "$work/run"
as_postgres=()
if [ "$(id -u)" -eq 0 ]; then
    user=postgres
    id "$user" >/dev/null 2>&1 || user=nobody
    chown "$user" "$work/data" "$work/run"
    as_postgres=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups)
fi
# The + is for old versions of bash, which treat an empty array as an unset variable.
run() { (cd / && ${as_postgres[@]+"${as_postgres[@]}"} "$@"); }
stop() {
    if [ -s "$work/data/postmaster.pid" ]; then
        run "$bin/pg_ctl" -D "$work/data" -m immediate -w stop >/dev/null || true
    fi
    rm -rf "$work"
}
trap stop EXIT

run "$bin/initdb" -D "$work/data" -U tessera -A trust -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null
run "$bin/pg_ctl" -D "$work/data" -w -l "$work/data/log" \
    -o "-c listen_addresses= -c fsync=off -k $work/run" start >/dev/null \
    || die "PostgreSQL did not start: $(tail -n 5 "$work/data/log")"
export PGHOST=$work/run PGUSER=tessera PGDATABASE=postgres PGOPTIONS='-c client_min_messages=warning'
for migration in migrations/*.sql; do
    "$bin/psql" -qX -v ON_ERROR_STOP=1 -1 -f "$migration" >/dev/null
done

# The macros write one file per query into this directory, which must exist. Both modes run the same build, so that only
# the crate with the queries is recompiled.
fresh=$work/sqlx
mkdir "$fresh"
lib=crates/tessera-core/src/lib.rs
touch -r "$lib" "$work/before"
touch "$lib"
touch -r "$lib" "$work/touched"
env -u SQLX_OFFLINE DATABASE_URL="postgres://tessera@localhost/postgres?host=$work/run" \
    SQLX_OFFLINE_DIR="$fresh" cargo check --quiet --workspace --all-targets
# Restores the file's time, unless it was edited meanwhile, so that later builds and tests do not compile the core again.
[ "$lib" -nt "$work/touched" ] || touch -r "$work/before" "$lib"

if $check; then
    diff -r .sqlx "$fresh" >&2 || die ".sqlx is out of date: run scripts/sqlx-prepare.sh and commit the result"
    say ".sqlx is up to date ($(find "$fresh" -name '*.json' | wc -l) queries)"
else
    rm -rf .sqlx
    cp -R "$fresh" .sqlx
    say "wrote .sqlx: $(find .sqlx -name '*.json' | wc -l) queries"
fi
