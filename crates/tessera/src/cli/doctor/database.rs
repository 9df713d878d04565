//! Checks of the database: availability, safety, versions, free connections, and the state of deliveries.

use std::sync::Arc;

use sqlx::{Connection as _, PgConnection};
use tessera_core::db::Pools;
use tessera_core::db::ops::doctor::{self, Deliveries, ServerInfo};
use tessera_core::db::ops::maintenance::missing_partitions;
use tessera_core::desk::clock;
use time::OffsetDateTime;
use tokio::time::timeout;

use super::{CHECK_MAX, Finding, blocking, outside, silence, span, without_password};
use crate::cli::backup::size;
use crate::config::Config;
use crate::database::Database;

/// The oldest PostgreSQL that Tessera's SQL runs on.
const OLDEST: i32 = 150_000;
/// Connections that should be free.
const CONNECTIONS_LEFT: i64 = 10;
/// Idle time of a database transaction above which it keeps PostgreSQL from cleaning up, in seconds.
const IDLE_MAX: f64 = 60.0;
/// Clock difference above which there is a warning, in seconds.
const CLOCK_WARNING: f64 = 2.0;
/// Clock difference above which receivers may reject signed webhooks (they allow 5 minutes), in seconds.
const CLOCK_MAX: f64 = 60.0;
/// Webhook endpoints that are checked at most.
const ENDPOINTS_MAX: i64 = 100;
/// Age of the oldest due delivery above which apparently nobody sends them, in seconds.
const OVERDUE_WARNING: f64 = 60.0;

/// Checks the database. Each check has its own time limit; once the database does not respond, the others are not tried.
pub(super) async fn check(config: &Config, database: &Arc<Database>, report: &mut impl FnMut(Vec<Finding>)) {
    let place = match &config.database_url {
        Some(url) => without_password(url),
        None => format!("embedded in {}", config.data_dir.join("postgres").display()),
    };
    let mut db = match timeout(CHECK_MAX, PgConnection::connect_with(&database.options())).await {
        Ok(Ok(db)) => db,
        Ok(Err(error)) => {
            let advice =
                "check that PostgreSQL runs there, the name and password in database.url, and pg_hba.conf";
            return report(vec![Finding::failed("database", format!("{place}: {error}"), advice)]);
        }
        Err(_) => return report(vec![silence("database", &place)]),
    };
    let before = clock::now();
    let server = match timeout(CHECK_MAX, doctor::server(&mut db)).await {
        Ok(Ok(server)) => server,
        Ok(Err(error)) => return report(vec![refused(&place, error)]),
        Err(_) => return report(vec![silence("database", &place)]),
    };
    let ours = before + (clock::now() - before) / 2;
    report(vec![
        version(&server, &place),
        safety(&server, database.is_embedded()),
        connections(&server, config.pool_sizes.total()),
        session(config, database).await,
        idle(&server),
        clocks(&server, ours),
    ]);
    let (is_external, tools) = (config.database_url.is_some(), Arc::clone(database));
    let major = u32::try_from(server.version / 10_000).unwrap_or_default();
    report(blocking("versions", move || vec![programs(is_external, &tools, major)]).await);
    let Ok(found) = timeout(CHECK_MAX, doctor::schema(&mut db)).await else {
        return report(vec![silence("schema", &place)]);
    };
    let is_migrated = matches!(found, Ok(Some(_)));
    report(vec![schema(found)]);
    // Before the first migration there is nothing more to check.
    if !is_migrated {
        return;
    }
    let Ok(found) = timeout(CHECK_MAX, doctor::deliveries(&mut db, ours)).await else {
        return report(vec![silence("deliveries", &place)]);
    };
    report(vec![match found {
        Ok(seen) => deliveries(&seen),
        Err(error) => refused("the deliveries", error),
    }]);
    let Ok(found) = timeout(CHECK_MAX, missing_partitions(&mut db, ours)).await else {
        return report(vec![silence("partitions", &place)]);
    };
    report(vec![match found {
        Ok(missing) => partitions(&missing),
        Err(error) => refused("the partitions", error),
    }]);
    let Ok(urls) = timeout(CHECK_MAX, doctor::webhook_urls(&mut db, ENDPOINTS_MAX)).await else {
        return report(vec![silence("webhooks", &place)]);
    };
    match urls {
        Ok(urls) => report(outside::webhooks(config, &urls).await),
        Err(error) => report(vec![refused("the webhooks", error)]),
    }
    // Everything was checked; a failure to close does not matter.
    let _ = timeout(CHECK_MAX, db.close()).await;
}

fn refused(what: &str, error: tessera_core::Error) -> Finding {
    let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
    Finding::failed("database", format!("{what}: {cause}"), "see PostgreSQL's log")
}

fn version(server: &ServerInfo, place: &str) -> Finding {
    let bytes = size(u64::try_from(server.bytes).unwrap_or_default());
    let seen = format!("PostgreSQL {} responds, {bytes}, {place}", server.version_name);
    if server.version < OLDEST {
        return Finding::failed(
            "database",
            seen,
            "Tessera needs PostgreSQL 15 or newer: upgrade it, or use another server",
        );
    }
    if !server.trigrams {
        let advice =
            "install postgresql-contrib on its machine: searches and migrations need the extension pg_trgm";
        return Finding::failed("database", format!("{seen}; the extension pg_trgm is missing"), advice);
    }
    Finding::good("database", seen)
}

fn safety(server: &ServerInfo, is_embedded: bool) -> Finding {
    if !server.fsync {
        let advice =
            "set fsync = on in postgresql.conf: without it, a power failure can destroy the database";
        return Finding::failed("safety", "fsync is off", advice);
    }
    match (server.checksums, is_embedded) {
        (true, _) => Finding::good("safety", "fsync is on, pages have checksums"),
        (false, true) => {
            let advice =
                "stop the server and run pg_checksums --enable on postgres/data; new clusters have checksums";
            Finding::warning("safety", "fsync is on, pages have no checksums", advice)
        }
        (false, false) => Finding::good(
            "safety",
            "fsync is on; pages have no checksums, as chosen when the cluster was created",
        ),
    }
}

/// Checks the free connections, and that PostgreSQL allows as many as this node may open.
fn connections(server: &ServerInfo, node: u32) -> Finding {
    let ServerInfo { connections, connections_max, .. } = server;
    let left = connections_max - connections;
    let seen =
        format!("{connections} of {connections_max} connections are in use; a node opens up to {node}");
    if *connections_max < i64::from(node) {
        let advice =
            "raise max_connections in postgresql.conf, or lower the numbers in [database.connections]";
        return Finding::failed("connections", seen, advice);
    }
    let advice = "raise max_connections, lower the numbers in [database.connections], or stop other clients";
    match left {
        ..=0 => Finding::failed("connections", seen, advice),
        1..CONNECTIONS_LEFT => Finding::warning("connections", seen, advice),
        _ => Finding::good("connections", seen),
    }
}

/// Checks that connections have the settings that Tessera asks for, which a pooler may drop.
async fn session(config: &Config, database: &Database) -> Finding {
    let pools = Pools::new(&database.options(), config.pool_sizes);
    let checked = pools.check_settings().await;
    pools.close().await;
    match checked {
        Ok(()) => Finding::good("session", "connections have the settings that Tessera asks for"),
        Err(error) => Finding::failed(
            "session",
            error.detail(),
            "connect to PostgreSQL itself, or to a pooler that passes the startup parameter `options` on and pools sessions",
        ),
    }
}

fn idle(server: &ServerInfo) -> Finding {
    match server.idle_seconds {
        Some(seconds) if seconds > IDLE_MAX => Finding::warning(
            "transactions",
            format!("a database transaction has been idle for {}", span(seconds)),
            "find it in pg_stat_activity (state 'idle in transaction') and end it with pg_terminate_backend: tables cannot be vacuumed meanwhile",
        ),
        _ => Finding::good("transactions", "no database transaction is idle"),
    }
}

fn clocks(server: &ServerInfo, ours: OffsetDateTime) -> Finding {
    let apart = (server.now - ours).as_seconds_f64();
    let seen = format!(
        "the database's clock is {:.1} s {} this machine's",
        apart.abs(),
        if apart < 0.0 { "behind" } else { "ahead of" }
    );
    let advice = "synchronize both machines with the same time source (systemd-timesyncd, chrony)";
    match apart.abs() {
        far if far > CLOCK_MAX => Finding::failed("clock", seen, advice),
        far if far > CLOCK_WARNING => Finding::warning("clock", seen, advice),
        _ => Finding::good("clock", "the database's clock agrees with this machine's"),
    }
}

/// Checks for the programs that a start and a backup need, of the server's major version.
fn programs(is_external: bool, database: &Database, major: u32) -> Finding {
    let program = env!("CARGO_PKG_VERSION");
    match database.tools(major) {
        Ok(tools) => Finding::good(
            "versions",
            format!("Tessera {program}; pg_dump for backups is in {}", tools.bin().display()),
        ),
        Err(error) => {
            let what = if is_external {
                "backups need them; the package postgresql-client of that version is enough"
            } else {
                "backups need them"
            };
            Finding::warning("versions", format!("Tessera {program}; {error}"), what)
        }
    }
}

fn schema(found: tessera_core::Result<Option<i64>>) -> Finding {
    let ours = doctor::newest_schema();
    match found {
        Ok(Some(schema)) if schema == ours => {
            Finding::good("schema", format!("migration {schema}, the newest that this Tessera knows"))
        }
        Ok(Some(schema)) if schema < ours => {
            let seen = format!("migration {schema}; this Tessera needs {ours}");
            Finding::warning(
                "schema",
                seen,
                "the next start migrates; `tessera migrate` does it now. Make a backup first",
            )
        }
        Ok(Some(schema)) => {
            let seen = format!("migration {schema}; this Tessera only knows {ours}");
            Finding::failed(
                "schema",
                seen,
                "a newer Tessera migrated it: start that version, or restore a backup from before",
            )
        }
        Ok(None) => Finding::warning(
            "schema",
            "no migration yet",
            "the first start migrates; `tessera migrate` does it now",
        ),
        Err(error) => refused("the migrations", error),
    }
}

fn partitions(missing: &[String]) -> Finding {
    if missing.is_empty() {
        return Finding::good("partitions", "those of this month and the next two exist");
    }
    let seen = format!("missing: {}; their rows go to the default partition", missing.join(", "));
    let advice = "start the server, which creates them and tries again every hour; its log says why one cannot be created";
    Finding::warning("partitions", seen, advice)
}

fn deliveries(seen: &Deliveries) -> Finding {
    let text = format!("{} are waiting, {} failed for good within a day", seen.waiting, seen.dead);
    match seen.overdue_seconds {
        Some(seconds) if seconds > OVERDUE_WARNING => Finding::warning(
            "deliveries",
            format!("{text}; the oldest has been due for {}", span(seconds)),
            "no server is sending them: check that a server is running, and see its log",
        ),
        _ if seen.dead > 0 => {
            let advice =
                "GET /api/deliveries?state=discarded lists them with the responses of their receivers";
            Finding::warning("deliveries", text, advice)
        }
        _ => Finding::good("deliveries", text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use time::macros::datetime;

    fn server() -> ServerInfo {
        ServerInfo {
            version: 150_004,
            version_name: "15.4".into(),
            fsync: true,
            checksums: true,
            connections: 3,
            connections_max: 97,
            idle_seconds: None,
            bytes: 8_000_000,
            trigrams: true,
            now: datetime!(2026-11-23 10:00 UTC),
        }
    }

    #[test]
    fn every_problem_of_a_server_is_reported() {
        let now = server().now;
        assert_eq!(version(&server(), "here").verdict, Verdict::Good);
        assert_eq!(version(&ServerInfo { version: 140_010, ..server() }, "here").verdict, Verdict::Failed);
        assert_eq!(version(&ServerInfo { trigrams: false, ..server() }, "here").verdict, Verdict::Failed);
        assert_eq!(safety(&ServerInfo { fsync: false, ..server() }, true).verdict, Verdict::Failed);
        assert_eq!(safety(&ServerInfo { checksums: false, ..server() }, true).verdict, Verdict::Warning);
        assert_eq!(safety(&ServerInfo { checksums: false, ..server() }, false).verdict, Verdict::Good);
        assert_eq!(connections(&server(), 30).verdict, Verdict::Good);
        assert_eq!(connections(&ServerInfo { connections: 90, ..server() }, 30).verdict, Verdict::Warning);
        assert_eq!(connections(&ServerInfo { connections: 97, ..server() }, 30).verdict, Verdict::Failed);
        let too_many = connections(&server(), 98);
        assert_eq!(too_many.verdict, Verdict::Failed);
        assert!(too_many.advice.contains("max_connections"), "{}", too_many.advice);
        assert_eq!(idle(&ServerInfo { idle_seconds: Some(5.0), ..server() }).verdict, Verdict::Good);
        assert_eq!(idle(&ServerInfo { idle_seconds: Some(500.0), ..server() }).verdict, Verdict::Warning);
        assert_eq!(clocks(&server(), now).verdict, Verdict::Good);
        let behind = clocks(&server(), now + time::Duration::seconds(3));
        assert_eq!(
            (behind.verdict, behind.seen.as_str()),
            (Verdict::Warning, "the database's clock is 3.0 s behind this machine's")
        );
        assert_eq!(clocks(&server(), now - time::Duration::minutes(2)).verdict, Verdict::Failed);
    }

    #[test]
    fn a_partition_that_is_missing_is_a_warning_that_names_it() {
        assert_eq!(partitions(&[]).verdict, Verdict::Good);
        let seen = partitions(&["request_traces_2026_12".to_owned()]);
        assert_eq!(seen.verdict, Verdict::Warning);
        assert!(seen.seen.contains("request_traces_2026_12"), "{}", seen.seen);
    }

    #[test]
    fn deliveries_that_are_overdue_or_failed_for_good_are_a_warning() {
        let quiet = Deliveries { waiting: 4, overdue_seconds: Some(0.5), dead: 0 };
        assert_eq!(deliveries(&quiet).verdict, Verdict::Good);
        assert_eq!(deliveries(&Deliveries { dead: 1, ..quiet }).verdict, Verdict::Warning);
        let late = deliveries(&Deliveries { overdue_seconds: Some(600.0), ..quiet });
        assert!(late.verdict == Verdict::Warning && late.seen.ends_with("due for 10 min"), "{late}");
    }
}
