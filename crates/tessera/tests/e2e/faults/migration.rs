//! A server that is killed during a migration: the next one completes it, and two that start together do not conflict.

use serde_json::json;
use sqlx::Row as _;
use tokio::time::timeout;

use super::{Random, rounds};
use crate::support::{SOON, Server};

/// Maximum number of queries between a server's first statement and the kill.
const LOOKS: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_during_migration_ends_migrated() {
    let mut host = Server::start(&[]).await;
    let (mut random, mut kills, mut unfinished) = (Random::new(), 0, 0);
    for round in rounds((6, 40)) {
        let name = format!("desk_{round}");
        host.sql(&format!("CREATE DATABASE {name}")).await;
        let (mut first, mut second) = (host.stranger(&name, &[]), host.stranger(&name, &[]));
        first.begin(&[]);
        first_statement(&host, &name, random.below(LOOKS)).await;
        first.kill9();
        kills += 1;
        unfinished += usize::from(!is_migrated(&first).await);
        // Both start at the same time, as when a cluster is upgraded.
        first.begin(&[]);
        second.begin(&[]);
        assert!(first.answers().await && second.answers().await, "both serve");
        let ticket = json!({"queue": "General", "subject": "It works"});
        first.done("POST", "/api/tickets", &ticket).await;
        assert_eq!(second.list("/api/tickets").await.len(), 1);
        first.stop().await;
        second.stop().await;
        first.check();
        host.sql(&format!("DROP DATABASE {name}")).await;
    }
    assert!(unfinished > 0, "no kill came before the migration was over");
    host.stop().await;
    println!(
        "fault restart during migration: {kills} kills, {unfinished} before the end; two nodes then start at once; the check holds"
    );
}

/// Waits until the server sends its first statement to the database, and then for the duration of `more` queries. Polls
/// without a pause, because the migration is short.
async fn first_statement(host: &Server, database: &str, more: usize) {
    let mut db = host.connection().await;
    let begun = timeout(SOON, async {
        let there = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND query <> ''";
        let mut look = async || {
            let row = sqlx::query(there).bind(database).fetch_one(&mut db).await.unwrap();
            row.get::<i64, _>(0) > 0
        };
        while !look().await {}
        for _ in 0..more {
            look().await;
        }
    });
    begun.await.unwrap();
}

/// Returns whether the default configuration, which is written last, exists.
async fn is_migrated(server: &Server) -> bool {
    let seeded = sqlx::query("SELECT FROM config_version WHERE version > 0");
    matches!(seeded.fetch_optional(&mut server.connection().await).await, Ok(Some(_)))
}
