//! The secrets of what is about to be sent: looked up at that moment, and held by nobody longer than the attempt.

use super::Leased;
use super::webhook::{Secrets, secret_names};
use crate::db::secrets;
use crate::models::delivery::Payload;
use sqlx::PgPool;
use std::collections::BTreeSet;

/// The names of the secrets that an attempt needs.
fn needs(leased: &Leased) -> BTreeSet<&str> {
    match &leased.delivery.payload {
        Payload::Webhook(webhook) => secret_names(webhook),
        Payload::Email(_) | Payload::Connector(_) => BTreeSet::new(),
    }
}

/// Reads the secrets of what was leased together, in one statement: one for each webhook would cost more than sending it.
/// None when they cannot be read.
pub async fn of_all<'l>(pool: &PgPool, leased: impl IntoIterator<Item = &'l Leased>) -> Option<Secrets> {
    let names: BTreeSet<&str> = leased.into_iter().flat_map(needs).collect();
    if names.is_empty() {
        return Some(Secrets::new());
    }
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    secrets::values(pool, &names).await.ok()
}

/// Of all secrets those that an attempt needs, and that exist; it holds no others while it lasts.
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
