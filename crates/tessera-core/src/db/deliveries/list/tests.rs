//! Lists by state and endpoint, and the numbers of endpoints.

use super::*;
use crate::db::deliveries::endpoints::endpoints;
use crate::db::delivery_fixtures::{mail, queue, webhook};
use crate::error::Code;
use crate::testing::TestDb;
use sqlx::PgPool;

/// A desk on which every state occurs: the database's rows, written by hand.
async fn every_state(pool: &PgPool) -> Vec<DeliveryId> {
    let ids = queue(pool, (0..6).map(|n| webhook(&format!("https://h{n}.example/"))).collect()).await;
    let outcome = |n: usize, kind: &str, data: &str| {
        format!(
            "INSERT INTO transactions (ticket_id, request_id, batch_seq, transaction_type, data, creator_id, delivery_id)
             SELECT ticket_id, request_id, 0, '{kind}', '{data}', creator_id, '{id}' FROM transactions WHERE seq = 1;
             DELETE FROM delivery_queue WHERE delivery_id = '{id}';",
            id = ids[n]
        )
    };
    let sql = [
        format!("UPDATE delivery_queue SET held = 'operator' WHERE delivery_id = '{}';", ids[0]),
        format!(
            "UPDATE delivery_queue SET lease_token = 1, due_at = now() + '1 min' WHERE delivery_id = '{}';",
            ids[2]
        ),
        outcome(3, "WebhookDelivery", "{}"),
        outcome(4, "DeliveryFailed", "{\"reason\": \"permanent\"}"),
        outcome(5, "DeliveryFailed", "{\"reason\": \"cancelled\"}"),
        format!(
            "INSERT INTO delivery_actions (id, delivery_id, action, actor_id)
             SELECT gen_random_uuid(), '{}', 'cancel', creator_id FROM transactions WHERE seq = 1;",
            ids[5]
        ),
    ];
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.concat())).execute(pool).await.unwrap();
    ids
}

#[tokio::test]
async fn a_list_by_state_shows_those_in_it_and_no_others() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = every_state(&pool).await;
    for (state, id) in DeliveryState::ALL.into_iter().zip(ids) {
        let filter = Filter { state: Some(state), ..Filter::default() };
        let page = list(&pool, &filter, 10, None).await.unwrap();
        let found: Vec<_> = page.items.iter().map(|one| (one.id, one.state)).collect();
        assert_eq!(found, [(id, state)]);
    }
}

#[tokio::test]
async fn a_text_that_cannot_be_stored_is_the_askers_fault() {
    let db = TestDb::new().await;
    let filter = Filter { endpoint: Some("\0".into()), ..Filter::default() };
    let refused = list(&db.pools.read, &filter, 10, None).await.unwrap_err();
    assert_eq!(refused.code(), Code::Invalid);
    assert!(refused.to_string().contains("U+0000"), "{refused}");
    let json = sqlx::query("SELECT $1::jsonb").bind("\"\\u0000\"").execute(&db.pools.read).await.unwrap_err();
    assert_eq!(error(json).code(), Code::Invalid);
}

#[tokio::test]
async fn every_list_is_filtered_by_endpoint_kind_and_ticket_and_paged() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    every_state(&pool).await;
    let mails = queue(&pool, (0..3).map(|_| mail(&["a@example.org"])).collect()).await;
    let of = async |filter: &Filter| list(&pool, filter, 10, None).await.unwrap().items.len();
    for (n, state) in (0..).zip(DeliveryState::ALL) {
        let of_endpoint = |n: i32, state| Filter {
            endpoint: Some(format!("https://h{n}.example")),
            state,
            ..Filter::default()
        };
        assert_eq!(of(&of_endpoint(n, Some(state))).await, 1, "{state:?}");
        assert_eq!(of(&of_endpoint(n, None)).await, 1, "{state:?}");
        assert_eq!(of(&of_endpoint(n + 1, Some(state))).await, 0, "{state:?}");
        let emails = Filter { kind: Some(DeliveryKind::Email), state: Some(state), ..Filter::default() };
        assert_eq!(of(&emails).await, if state == DeliveryState::Available { 3 } else { 0 }, "{state:?}");
    }
    let filter =
        Filter { state: Some(DeliveryState::Available), endpoint: Some("smtp".into()), ..Filter::default() };
    let first = list(&pool, &filter, 2, None).await.unwrap();
    let second = list(&pool, &filter, 2, first.next_cursor.as_deref()).await.unwrap();
    let paged: Vec<_> = first.items.iter().chain(&second.items).map(|one| one.id).collect();
    assert_eq!(paged, mails.into_iter().rev().collect::<Vec<_>>());
}

/// The tables that a list's statement reads from beginning to end, with few rows wanted of many.
#[tokio::test]
async fn lists_by_state_do_not_walk_the_table() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    every_state(&pool).await;
    // Twenty thousand that have arrived, and their records.
    let fill = "
        CREATE TEMP TABLE more AS SELECT gen_random_uuid() AS id FROM generate_series(1, 20000);
        INSERT INTO deliveries (id, transaction_id, ticket_id, scrip_version_id, kind, endpoint, payload, created_at)
            SELECT m.id, d.transaction_id, d.ticket_id, d.scrip_version_id, d.kind, d.endpoint, d.payload, d.created_at
            FROM more m, (SELECT * FROM deliveries ORDER BY id LIMIT 1) d;
        INSERT INTO transactions (ticket_id, request_id, batch_seq, transaction_type, data, creator_id, delivery_id)
            SELECT t.ticket_id, t.request_id, 0, 'WebhookDelivery', '{}', t.creator_id, m.id
            FROM more m, (SELECT * FROM transactions WHERE seq = 1) t;
        ANALYZE deliveries, transactions, delivery_queue;";
    sqlx::raw_sql(fill).execute(&pool).await.unwrap();
    for state in DeliveryState::ALL {
        let filter = Filter { state: Some(state), ..Filter::default() };
        let mut tx = db.pools.read.begin().await.unwrap();
        let read = "SELECT sum(seq_tup_read + idx_tup_fetch)::bigint FROM pg_stat_xact_user_tables WHERE relname IN ('deliveries', 'transactions')";
        let before: i64 = sqlx::query_scalar(read).fetch_one(&mut *tx).await.unwrap();
        let found = ids_of(&mut tx, &filter, None, 11).await.unwrap();
        let after: i64 = sqlx::query_scalar(read).fetch_one(&mut *tx).await.unwrap();
        assert!(!found.ids.is_empty());
        assert!(after - before < 200, "{state:?}: {} rows read", after - before);
    }
}

/// An endpoint, its delivered and failed attempts by the hour, and its median.
type Figures = (String, Vec<(i64, i64)>, Option<i32>);

#[tokio::test]
async fn endpoints_count_what_was_tried_by_the_hour() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, vec![webhook("https://a.example/1"), mail(&["a@example.org"])]).await;
    let tried = |n: usize, token: i32, ago: &str, outcome: &str, ms: i32| {
        format!(
            "INSERT INTO delivery_attempts (delivery_id, lease_token, attempt, started_at, finished_at, outcome, duration_ms)
             VALUES ('{}', {token}, {token}, now() - interval '{ago}', now(), {outcome}, {ms});",
            ids[n]
        )
    };
    let sql = [
        tried(0, 1, "0", "'delivered'", 30),
        tried(0, 2, "0", "'delivered'", 10),
        tried(0, 3, "0", "'delivered'", 20),
        tried(0, 4, "0", "'retry'", 9_000),
        tried(0, 5, "2 hours", "'permanent'", 5),
        tried(0, 6, "0", "NULL", 5),
        tried(0, 7, "26 hours", "'retry'", 5),
        tried(1, 1, "30 hours", "'delivered'", 5),
    ];
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.concat())).execute(&pool).await.unwrap();
    let figures = async |hours: i32| -> Vec<Figures> {
        let seen = endpoints(&pool, hours, None).await.unwrap().into_iter();
        seen.map(|one| {
            let hours = one.hours.iter().map(|hour| (hour.delivered, hour.failed)).collect();
            (one.endpoint, hours, one.median_ms)
        })
        .collect()
    };
    let a = "https://a.example".to_owned();
    assert_eq!(
        figures(24).await,
        [(a.clone(), vec![(0, 1), (3, 1)], Some(20)), ("smtp".to_owned(), vec![], None)],
        "mail was last tried before that, and something waits"
    );
    assert_eq!(figures(1).await[0], (a.clone(), vec![(3, 1)], Some(20)));
    assert_eq!(figures(168).await[0].1.len(), 3);
    assert_eq!(endpoints(&pool, 24, Some("smtp")).await.unwrap().len(), 1);
}

/// Deliveries that were all given up.
async fn given_up(pool: &PgPool, count: i64) -> Vec<Uuid> {
    let ids = queue(pool, vec![webhook("https://a.example/")]).await;
    // After the first, so that they are newer.
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "INSERT INTO deliveries
         SELECT (lpad(to_hex(n + (('x' || left(replace(d.id::text, '-', ''), 15))::bit(60)::bigint)), 15, '0')
                 || right(replace(d.id::text, '-', ''), 17))::uuid,
                d.transaction_id, d.ticket_id, d.scrip_version_id, d.kind, d.endpoint, d.payload, d.body, d.created_at
         FROM deliveries d, generate_series(1, {count}) n WHERE d.id = '{id}';
         INSERT INTO transactions (ticket_id, request_id, batch_seq, transaction_type, data, creator_id, delivery_id)
         SELECT t.ticket_id, t.request_id, 0, 'DeliveryFailed', '{{\"reason\": \"permanent\"}}', t.creator_id, d.id
         FROM deliveries d JOIN transactions t ON t.id = d.transaction_id WHERE d.id > '{id}';",
        id = ids[0]
    )))
    .execute(pool)
    .await
    .unwrap();
    sqlx::query_scalar("SELECT id FROM deliveries WHERE id >= $1 ORDER BY id")
        .bind(ids[0].0)
        .fetch_all(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_page_searches_so_many_deliveries_and_no_more_and_its_cursor_goes_on() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let waiting = DeliveryId(given_up(&pool, SEARCHED_MAX + 500).await[0]);
    // Webhooks have many endpoints, so that no index has the kind.
    let kind = Some(DeliveryKind::Webhook);
    let filter = Filter { state: Some(DeliveryState::Completed), kind, ..Filter::default() };
    let first = list(&pool, &filter, 10, None).await.unwrap();
    assert!(first.items.is_empty() && first.next_cursor.is_some(), "it stops, and can go on");
    let last = list(&pool, &filter, 10, first.next_cursor.as_deref()).await.unwrap();
    assert!(last.items.is_empty() && last.next_cursor.is_none());
    for (filter, name) in [
        (Filter { state: Some(DeliveryState::Available), ..Filter::default() }, "the queue has one"),
        (Filter { state: Some(DeliveryState::Cancelled), ..Filter::default() }, "no operator cancelled one"),
        (Filter { kind: Some(DeliveryKind::Email), ..Filter::default() }, "mail has an endpoint of its own"),
        (Filter { endpoint: Some("https://b.example".into()), ..Filter::default() }, "so has this"),
    ] {
        let page = list(&pool, &filter, 10, None).await.unwrap();
        let found: Vec<_> = page.items.iter().map(|one| one.id).collect();
        let expected =
            if filter.state == Some(DeliveryState::Available) { vec![waiting] } else { Vec::new() };
        assert_eq!((found, page.next_cursor), (expected, None), "{name}");
    }
}

#[tokio::test]
async fn pages_of_a_state_follow_each_other_without_gaps_over_what_is_in_another() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let all = given_up(&pool, 700).await;
    let hidden = "UPDATE transactions SET transaction_type = 'WebhookDelivery' WHERE delivery_id = ANY ($1)";
    let (delivered, discarded): (Vec<_>, Vec<_>) = all[1..].iter().enumerate().partition(|(n, _)| n % 7 > 0);
    let of = |some: Vec<(usize, &Uuid)>| some.into_iter().map(|(_, id)| *id).rev().collect::<Vec<_>>();
    let (delivered, discarded) = (of(delivered), of(discarded));
    sqlx::query(hidden).bind(&delivered).execute(&pool).await.unwrap();
    for (state, expected) in [(DeliveryState::Completed, delivered), (DeliveryState::Discarded, discarded)] {
        let filter = Filter { state: Some(state), ..Filter::default() };
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let page = list(&pool, &filter, 13, cursor.as_deref()).await.unwrap();
            found.extend(page.items.iter().map(|one| one.id.0));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(found, expected, "{state:?}");
    }
}
