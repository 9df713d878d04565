//! Pages of large items: each ends at 1 MiB, and together they have every item once.

use super::desk::Desk;
use serde_json::{Value, json};

/// The maximum size of a page as JSON: 1 MiB of texts, and the members around them.
const PAGE_MAX: usize = 1_300_000;

/// Runs SQL that makes large rows, which would take many requests.
async fn fill(desk: &Desk, sql: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(desk.pool()).await.unwrap();
}

/// Reads all pages of a list, checks the size of each, and returns the number of items on each and a member of every item.
async fn pages(desk: &Desk, path: &str, member: &str) -> (Vec<usize>, Vec<Value>) {
    let (mut counts, mut seen, mut cursor) = (Vec::new(), Vec::new(), String::new());
    loop {
        let reply = desk.get(&format!("{path}{cursor}")).await;
        let size = reply.bytes.len();
        let page = reply.expect(200);
        let items = page["items"].as_array().unwrap();
        assert!(size <= PAGE_MAX || items.len() == 1, "{path}: {size} bytes, {} items", items.len());
        assert!(!items.is_empty(), "{path}");
        counts.push(items.len());
        seen.extend(items.iter().map(|item| item[member].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (counts, seen),
        }
    }
}

/// Adds comments with the sequence numbers 2 to `last`, each with a text of this many bytes.
fn comments(last: usize, bytes: &str) -> String {
    format!(
        "INSERT INTO transactions (id, ticket_id, seq, request_id, batch_seq, transaction_type, data, creator_id, created_at)
         SELECT md5('t' || n)::uuid, t.ticket_id, n, t.request_id, 0, 'Comment', '{{\"change\": \"comment\"}}', t.creator_id,
                t.created_at + n * interval '1 s'
         FROM transactions t, generate_series(2, {last}) n WHERE t.seq = 1;
         INSERT INTO transaction_contents (transaction_id, content_type, body)
         SELECT md5('t' || n)::uuid, 'text/plain', repeat('x', {bytes}) FROM generate_series(2, {last}) n;"
    )
}

#[tokio::test]
async fn a_history_of_large_comments_comes_in_pages_of_one_mebibyte() {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    // Every seventh is larger than a page.
    fill(&desk, &comments(60, "CASE WHEN n % 7 = 0 THEN 1500000 ELSE 300000 END")).await;
    let (counts, seen) = pages(&desk, "/api/tickets/1/transactions?limit=200", "seq").await;
    assert_eq!(seen, (1..=60).map(|seq| json!(seq)).collect::<Vec<_>>());
    assert!(counts.contains(&1) && counts.contains(&3), "{counts:?}");
    let (counts, seen) = pages(&desk, "/api/tickets/1/transactions?limit=2", "seq").await;
    assert_eq!((seen.len(), counts.iter().max()), (60, Some(&2)));
}

#[tokio::test]
async fn a_history_of_small_entries_ends_at_its_count() {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    fill(&desk, &comments(450, "10")).await;
    let (counts, seen) = pages(&desk, "/api/tickets/1/transactions?limit=200", "seq").await;
    assert_eq!((counts, seen.len()), (vec![200, 200, 50], 450));
}

#[tokio::test]
async fn the_causes_of_a_transaction_end_at_one_mebibyte_and_continue_from_the_last_one() {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    fill(&desk, &comments(20, "300000")).await;
    fill(&desk, "UPDATE transactions t SET caused_by = c.id FROM transactions c WHERE c.seq = t.seq - 1")
        .await;
    let id = |seq: usize| format!("SELECT id::text FROM transactions WHERE seq = {seq}");
    let mut from: String =
        sqlx::query_scalar(sqlx::AssertSqlSafe(id(20))).fetch_one(desk.pool()).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let reply = desk.get(&format!("/api/transactions/{from}/why")).await;
        assert!(reply.bytes.len() <= PAGE_MAX, "{} bytes", reply.bytes.len());
        let (mut link, mut next) = (reply.expect(200), Value::Null);
        while !link.is_null() {
            seen.push(link["transaction"]["seq"].clone());
            next = link["transaction"]["caused_by"].clone();
            link = link["caused_by"].take();
        }
        match next.as_str() {
            Some(next) => from = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, (1..=20).rev().map(|seq| json!(seq)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_state_is_computed_up_to_a_limit_of_transactions() {
    let desk = Desk::open().await;
    desk.create(json!({})).await;
    fill(&desk, &comments(20_001, "1")).await;
    fill(&desk, "UPDATE tickets SET version = 20001").await;
    let then = desk.get("/api/tickets/1/at/20000").await.expect(200);
    assert_eq!(then["version"], 20_000);
    let refused = desk.get("/api/tickets/1/at/20001").await.problem(409, "limit_reached");
    assert!(refused["detail"].as_str().unwrap().contains("20000"), "{refused}");
    let missing = desk.get("/api/tickets/1/at/20002").await.problem(404, "not_found");
    assert!(missing["detail"].as_str().unwrap().contains("1 to 20001"), "{missing}");
}

#[tokio::test]
async fn a_list_of_deliveries_leaves_out_their_messages_and_one_has_its_own() {
    let desk = Desk::open().await;
    desk.create(json!({ "requestors": ["eve"] })).await;
    fill(
        &desk,
        "UPDATE deliveries SET payload = jsonb_set(payload, '{text}', to_jsonb(repeat('x', 180000)));
         INSERT INTO deliveries (id, transaction_id, ticket_id, scrip_version_id, kind, endpoint, payload, created_at)
         SELECT md5('d' || n)::uuid, transaction_id, ticket_id, scrip_version_id, kind, endpoint, payload, created_at
         FROM deliveries, generate_series(1, 199) n;
         INSERT INTO delivery_queue (delivery_id, kind, endpoint, due_at)
         SELECT id, kind, endpoint, created_at FROM deliveries ON CONFLICT DO NOTHING",
    )
    .await;
    for path in [
        "/api/deliveries?limit=200",
        "/api/deliveries?state=available&limit=200",
        "/api/tickets/1/deliveries?limit=200",
    ] {
        let reply = desk.get(path).await;
        assert!(reply.bytes.len() < 300_000, "{path}: {} bytes", reply.bytes.len());
        let items = reply.expect(200)["items"].take();
        assert_eq!(items.as_array().unwrap().len(), 200, "{path}");
        assert_eq!((&items[0]["kind"], &items[0]["text"]), (&json!("email"), &Value::Null));
        let one =
            desk.get(&format!("/api/deliveries/{}", items[0]["id"].as_str().unwrap())).await.expect(200);
        assert_eq!(one["text"].as_str().unwrap().len(), 180_000);
    }
}

#[tokio::test]
async fn large_tickets_are_found_and_exported_in_parts_and_each_once() {
    let desk = Desk::open().await;
    for _ in 0..12 {
        desk.create(json!({})).await;
    }
    fill(
        &desk,
        "INSERT INTO custom_field_values (id, custom_field_id, ticket_id, value, value_folded)
         SELECT md5(t.number || 'v' || n)::uuid, '00000000-0000-7000-8000-0000000000d2', t.id, repeat('v', 1990) || n, n::text
         FROM tickets t, generate_series(1, CASE WHEN t.number % 5 = 0 THEN 600 ELSE 200 END) n",
    )
    .await;
    for path in ["/api/tickets?limit=200&order=id", "/api/tickets?limit=5&order=-Subject,id"] {
        let (counts, seen) = pages(&desk, path, "number").await;
        assert_eq!(seen, (1..=12).map(|number| json!(number)).collect::<Vec<_>>(), "{counts:?}");
        assert!(counts.contains(&2) && counts.contains(&1), "{counts:?}");
    }
    let exported = desk.get("/api/tickets/export?format=jsonl&order=id&fields=number").await;
    let lines: Vec<Value> = String::from_utf8(exported.bytes)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines, (1..=12).map(|number| json!({ "number": number })).collect::<Vec<_>>());
}

#[tokio::test]
async fn large_objects_of_the_configuration_and_their_versions_come_in_pages_of_one_mebibyte() {
    let desk = Desk::open().await;
    fill(
        &desk,
        "INSERT INTO templates (id, name, version, version_id, subject_template, body_template, content_type, changed_in)
         SELECT md5('t' || n)::uuid, 'T' || n, 1, md5('tv' || n)::uuid, 's', repeat('b', 60000), 'text', 1
         FROM generate_series(1, 45) n;
         INSERT INTO scrip_versions (id, scrip_id, version, snapshot, creator_id)
         SELECT md5('sv' || n)::uuid, '00000000-0000-7000-8000-0000000000f3', n + 4,
                jsonb_build_object('name', repeat('n', 60000)), '00000000-0000-7000-8000-000000000002'
         FROM generate_series(1, 45) n",
    )
    .await;
    let (counts, mut seen) = pages(&desk, "/api/templates?limit=200", "id").await;
    seen.dedup();
    assert_eq!(seen.len(), 46);
    assert!(counts.len() >= 3, "{counts:?}");
    let versions = "/api/scrips/00000000-0000-7000-8000-0000000000f3/versions?limit=200";
    let (counts, seen) = pages(&desk, versions, "version").await;
    assert_eq!(seen, (4..=49).rev().map(|version| json!(version)).collect::<Vec<_>>());
    assert!(counts.len() >= 3, "{counts:?}");
}
