//! The pools, and the errors of a database that is failing over.

use super::*;
use crate::error::Kind;
use crate::testing::TestDb;
use sqlx::postgres::PgSslMode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A proxy that has lost its server: it accepts each connection, reads something, answers with `answer` and closes.
async fn proxy(answer: &'static [u8]) -> PgConnectOptions {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let _ = client.read(&mut [0; 64]).await;
            let _ = client.write_all(answer).await;
        }
    });
    PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port).username("tessera")
}

#[tokio::test]
async fn a_proxy_that_accepts_and_closes_is_a_database_that_is_unavailable() {
    for answer in [
        &b""[..],
        b"N",
        b"S",
        b"E\0\0",
        b"HTTP/1.0 503 Service Unavailable\r\n\r\n",
        b"R\0\0\0\x08\0\0\0\0",
        // PostgreSQL itself, on a full disk.
        b"E\0\0\0\x35SFATAL\0VFATAL\0CXX000\0Mcould not write init file\0\0",
    ] {
        let options = proxy(answer).await;
        for mode in [PgSslMode::Disable, PgSslMode::Prefer, PgSslMode::Require] {
            let pools = Pools::new(&options.clone().ssl_mode(mode), PoolSizes::DEFAULT);
            let name = String::from_utf8_lossy(answer);
            let refused = pools.changes.take().await.unwrap_err();
            assert_eq!(refused.kind(), Kind::Unavailable, "{name} {mode:?}: {refused:?}");
            let refused = error(pools.read.acquire().await.unwrap_err());
            assert_eq!(refused.kind(), Kind::Unavailable, "{name} {mode:?}: {refused:?}");
        }
    }
}

#[tokio::test]
async fn an_error_that_a_failover_causes_is_temporary() {
    let db = TestDb::new().await;
    for (code, expected) in [
        ("25006", Code::DatabaseUnavailable),
        ("25P03", Code::DatabaseUnavailable),
        ("57P01", Code::DatabaseUnavailable),
        ("57P02", Code::DatabaseUnavailable),
        ("57P03", Code::DatabaseUnavailable),
        ("53300", Code::DatabaseUnavailable),
        ("08006", Code::DatabaseUnavailable),
        ("28000", Code::DatabaseUnavailable),
        ("3D000", Code::DatabaseUnavailable),
        ("58030", Code::DatabaseUnavailable),
        ("40001", Code::Busy),
        ("40P01", Code::Busy),
        ("57014", Code::Busy),
        ("55P03", Code::Locked),
        ("42601", Code::Internal),
        ("XX000", Code::Internal),
    ] {
        let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'it' USING ERRCODE = '{code}'; END $$");
        let raised = sqlx::raw_sql(sqlx::AssertSqlSafe(raise)).execute(&db.pools.write).await.unwrap_err();
        assert_eq!(error(raised).code(), expected, "{code}");
    }
}

#[tokio::test]
async fn three_nodes_fit_into_the_connections_of_a_stock_postgresql_with_room_for_operators() {
    // max_connections = 100, of which 3 are for superusers.
    let for_operators = 5;
    assert!(3 * PoolSizes::DEFAULT.total() + for_operators <= 97);
}

#[tokio::test]
async fn the_health_check_and_the_configuration_have_a_connection_while_all_others_are_in_use() {
    let db = TestDb::new().await;
    let PoolSizes { write, read, changes, previews, searches } = PoolSizes::DEFAULT;
    let mut sets = Vec::new();
    for (set, max) in
        [(&db.pools.changes, changes), (&db.pools.previews, previews), (&db.pools.searches, searches)]
    {
        for _ in 0..max {
            sets.push(set.take().await.unwrap());
        }
    }
    let mut pools = Vec::new();
    for (pool, max) in [(&db.pools.write, write), (&db.pools.read, read)] {
        for _ in 0..max {
            pools.push(pool.acquire().await.unwrap());
        }
    }
    let mut reserved = db.pools.reserved.acquire().await.unwrap();
    catalog::version(&mut reserved).await.unwrap();
    for set in sets {
        set.done(Ok(())).unwrap();
    }
}
