//! Deliveries for tests, with the ticket and the transaction that they need.

use crate::models::delivery::{Delivery, Email, Payload, Webhook};
use crate::models::user::SYSTEM_USER;
use crate::models::{DeliveryId, Ids};
use sqlx::{AssertSqlSafe, PgPool};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use time::macros::datetime;
use uuid::Uuid;

/// The current time in tests.
pub const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

/// A webhook to `url`.
pub fn webhook(url: &str) -> Payload {
    Payload::Webhook(Webhook {
        method: "POST".into(),
        url: url.into(),
        headers: BTreeMap::new(),
        body: "{\"ticket\":1}".into(),
        secret: None,
    })
}

/// An email to these addresses.
pub fn mail(to: &[&str]) -> Payload {
    Payload::Email(Email {
        from: "help@example.com".into(),
        to: to.iter().map(|&address| address.to_owned()).collect(),
        cc: Vec::new(),
        bcc: Vec::new(),
        subject: "[tessera #1] It works".into(),
        headers: BTreeMap::new(),
        text: "Hello".into(),
        html: None,
        recipients: Vec::new(),
        as_comment: false,
    })
}

/// Writes a ticket with one transaction that created these deliveries, all due now; returns their ids in order.
pub async fn queue(pool: &PgPool, payloads: Vec<Payload>) -> Vec<DeliveryId> {
    // A unique number gives unique ids.
    let drawn: i64 = sqlx::query_scalar("SELECT nextval('ticket_number')").fetch_one(pool).await.unwrap();
    let mut ids = Ids::new(NOW, drawn.unsigned_abs() << 40);
    let (user, ticket, transaction): (Uuid, Uuid, Uuid) = (SYSTEM_USER.0, ids.draw(), ids.draw());
    sqlx::raw_sql(AssertSqlSafe(format!(
        "INSERT INTO users (id, username) VALUES ('{user}', 'system') ON CONFLICT DO NOTHING;
         INSERT INTO lifecycles (id, name, version, version_id, definition, changed_in)
         VALUES ('{user}', 'default', 1, '{user}', '{{}}', 0) ON CONFLICT DO NOTHING;
         INSERT INTO queues (id, name, lifecycle_id, changed_in) VALUES ('{user}', 'General', '{user}', 0) ON CONFLICT DO NOTHING;
         INSERT INTO tickets (id, version, subject, subject_folded, queue_id, status, status_class, creator_id)
         VALUES ('{ticket}', 1, 'It', 'it', '{user}', 'new', 'i', '{user}');
         INSERT INTO transactions (id, ticket_id, seq, request_id, batch_seq, transaction_type, data, creator_id)
         VALUES ('{transaction}', '{ticket}', 1, '{ticket}', 1, 'Create', '{{}}', '{user}');"
    )))
    .execute(pool)
    .await
    .unwrap();
    let mut created = Vec::new();
    for payload in payloads {
        let delivery = Delivery {
            id: ids.draw(),
            ticket: ticket.into(),
            transaction: transaction.into(),
            scrip_version: user.into(),
            payload,
            created_at: NOW,
        };
        insert(pool, &delivery).await;
        created.push(delivery.id);
    }
    created
}

async fn insert(pool: &PgPool, delivery: &Delivery) {
    let body = match &delivery.payload {
        Payload::Webhook(webhook) => Some(webhook.body.clone().into_bytes()),
        Payload::Email(_) | Payload::Connector(_) => None,
    };
    sqlx::query(
        "WITH made AS (
           INSERT INTO deliveries (id, transaction_id, ticket_id, scrip_version_id, kind, endpoint, payload, body, created_at)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id, kind, endpoint)
         INSERT INTO delivery_queue (delivery_id, kind, endpoint, due_at) SELECT id, kind, endpoint, now() FROM made",
    )
    .bind(delivery.id)
    .bind(delivery.transaction)
    .bind(delivery.ticket)
    .bind(delivery.scrip_version)
    .bind(delivery.payload.kind().as_str())
    .bind(delivery.payload.endpoint())
    .bind(serde_json::to_value(&delivery.payload).unwrap())
    .bind(body)
    .bind(delivery.created_at)
    .execute(pool)
    .await
    .unwrap();
}
