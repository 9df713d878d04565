#!/usr/bin/env bash
# Writes .sqlx, the description of every query, from a fresh database with all migrations; so a build needs none.
# With --check it writes nothing, and fails when what is committed is not what it would write.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

check=false
case "${1:-}" in
    '') ;;
    --check) check=true ;;
    *) die "takes nothing or --check" ;;
esac
bin=$(postgres_bin) || die "found no PostgreSQL programs; run scripts/dev-setup.sh"

# A directory of its own; the server's user must be able to enter it.
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
# Old versions of bash take an empty array for an unset variable, hence the +.
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
    || die "PostgreSQL does not start: $(tail -n 5 "$work/data/log")"
export PGHOST=$work/run PGUSER=tessera PGDATABASE=postgres PGOPTIONS='-c client_min_messages=warning'
for migration in migrations/*.sql; do
    "$bin/psql" -qX -v ON_ERROR_STOP=1 -1 -f "$migration" >/dev/null
done

# The macros write one file a query into this directory, which must be there. In both cases the same build runs, so
# that nothing but the crate with the queries is compiled again.
fresh=$work/sqlx
mkdir "$fresh"
touch crates/tessera-core/src/lib.rs
env -u SQLX_OFFLINE DATABASE_URL="postgres://tessera@localhost/postgres?host=$work/run" \
    SQLX_OFFLINE_DIR="$fresh" cargo check --quiet --workspace --all-targets

if $check; then
    diff -r .sqlx "$fresh" >&2 || die ".sqlx is not current: run scripts/sqlx-prepare.sh and commit it"
    say ".sqlx is current ($(find "$fresh" -name '*.json' | wc -l) queries)"
else
    rm -rf .sqlx
    cp -R "$fresh" .sqlx
    say "wrote .sqlx: $(find .sqlx -name '*.json' | wc -l) queries"
fi
