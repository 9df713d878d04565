//! Secrets of deliveries: read just before an attempt, and kept in memory no longer than it.

use super::Leased;
use super::webhook::{Secrets, secret_names};
use crate::db::secrets;
use crate::models::delivery::Payload;
use sqlx::PgPool;
use std::collections::BTreeSet;

fn needs(leased: &Leased) -> BTreeSet<&str> {
    match &leased.delivery.payload {
        Payload::Webhook(webhook) => secret_names(webhook),
        Payload::Email(_) | Payload::Connector(_) => BTreeSet::new(),
    }
}

/// Reads the secrets of deliveries that were leased together in one statement, because one statement per webhook would cost
/// more than sending it. Returns `None` if they cannot be read.
pub async fn of_all<'l>(pool: &PgPool, leased: impl IntoIterator<Item = &'l Leased>) -> Option<Secrets> {
    let names: BTreeSet<&str> = leased.into_iter().flat_map(needs).collect();
    if names.is_empty() {
        return Some(Secrets::new());
    }
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    secrets::values(pool, &names).await.ok()
}

/// Returns the secrets that an attempt needs and that exist.
pub fn share_of(secrets: Option<&Secrets>, leased: &Leased) -> Option<Secrets> {
    let names = needs(leased);
    match secrets {
        _ if names.is_empty() => Some(Secrets::new()),
        Some(all) => Some(
            names
                .into_iter()
                .filter_map(|name| all.get(name).map(|secret| (name.to_owned(), secret.clone())))
                .collect(),
        ),
        None => None,
    }
}
