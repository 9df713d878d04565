//! Webhooks: the HTTP request that an action sends. The transport adds the signature and the values of secrets.

use super::Names;
use super::draft::{Draft, date};
use super::intent::{Intent, Message};
use super::variables::{FIXED_TIME, Tense, Variables};
use super::words::{Bench, Unready, Words, cost};
use crate::models::delivery::{DEPTH_HEADER, HeaderValue, Webhook};
use crate::models::{CustomField, Role, UserId, Watcher};
use crate::scrip::action::webhook::{Webhook as Action, WebhookHeader, leads_elsewhere};
use crate::scrip::template::Template;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use url::Url;

/// Prepares a webhook.
pub(super) fn intend<'a>(bench: &mut Bench<'_, '_, 'a>, action: &Action) -> Result<Intent<'a>, Unready> {
    let template = bench.template()?;
    let webhook = compose(&mut bench.real(), action, template)?;
    let body_differs = match (&action.body, template) {
        (Some(_), _) => false,
        (None, Some(template)) => bench.differs(template),
        // The default document contains ids and times.
        (None, None) => true,
    };
    let canonical = if body_differs || bench.texts_differ() {
        canonical(&compose(&mut bench.fixed(), action, template)?)
    } else {
        canonical(&webhook)
    };
    Ok(Intent::Send(Message::Webhook(Box::new(webhook)), canonical))
}

fn compose(
    words: &mut Words<'_, '_, '_>,
    action: &Action,
    template: Option<&Template>,
) -> Result<Webhook, Unready> {
    let target = words.render("url", &action.target)?;
    if let Some(reason) = leads_elsewhere(&target, action.target.source()) {
        return Err(Unready::Refused("url", format!("url: {reason}")));
    }
    let origin = action.origin.as_str().trim_end_matches('/');
    let separator = if target.is_empty() || target.starts_with(['/', '?']) { "" } else { "/" };
    let url = Url::parse(&format!("{origin}{separator}{target}"))
        .ok()
        .filter(|url| url.origin() == action.origin.origin())
        .ok_or_else(|| Unready::Failed(format!("url: {origin}{target} is not a URL of {origin}")))?;
    let mut headers = BTreeMap::new();
    for (name, header) in &action.headers {
        let value = match header {
            WebhookHeader::Text(text) => HeaderValue::Text(words.render(&format!("headers.{name}"), text)?),
            WebhookHeader::Secret(secret) => HeaderValue::Secret { secret: secret.clone() },
        };
        headers.insert(name.clone(), value);
    }
    if !headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")) {
        headers.insert("Content-Type".to_owned(), HeaderValue::Text("application/json".to_owned()));
    }
    headers.insert(DEPTH_HEADER.to_owned(), HeaderValue::Text(words.snapshot.depth().to_string()));
    let body = match (&action.body, template) {
        (Some(text), _) => words.render("body", text)?,
        (None, Some(template)) => {
            let text = template.webhook_body(action.escape).map_err(|fault| {
                Unready::Failed(format!("body_template as the body of a webhook: {fault}"))
            })?;
            words.render("body_template", text)?
        }
        (None, None) => default_body(words)?,
    };
    Ok(Webhook {
        method: action.method.clone(),
        url: url.into(),
        headers,
        body,
        secret: action.secret.clone(),
    })
}

/// The body of a webhook that has neither a body of its own nor a template: the event, in the shape that Standard Webhooks
/// recommends.
fn default_body(words: &mut Words<'_, '_, '_>) -> Result<String, Unready> {
    let snapshot = words.snapshot;
    let variables = Variables::new(snapshot.draft, words.tense);
    let mut values = variables.of(snapshot.transaction);
    words.work(values.values().map(cost).sum())?;
    let mut take = |name: &str| values.remove(name).unwrap_or_default();
    let kind = snapshot.transaction.transaction_type.as_str().to_lowercase();
    let document = json!({
        "type": format!("ticket.{kind}"),
        "timestamp": take("now"),
        "data": { "ticket": ticket(snapshot.draft, words.tense), "transaction": take("transaction"), "actor": take("actor") },
    });
    let body = document.to_string();
    words.spend(body.len())?;
    Ok(body)
}

/// The ticket as the API returns it, after the transactions so far; for the hash without what differs between two plans.
fn ticket(draft: &Draft<'_>, tense: Tense<'_>) -> Value {
    let (ticket, actor) = (&draft.ticket, Some(&draft.context.actor));
    let names = Names { catalog: draft.catalog, people: &draft.situation.people, actor };
    let is_new = draft.situation.is_new();
    let is_hashed = |is_volatile: bool| is_volatile && tense.is_fixed();
    let time = |time: Option<OffsetDateTime>| {
        time.map(|time| date(if is_hashed(time == draft.context.now) { FIXED_TIME } else { time }))
    };
    let username = |id: Option<UserId>| id.map(|id| names.username(id));
    let people = |role: Role| -> Vec<Value> {
        let person = |watcher: &Watcher| {
            let user = watcher.user.and_then(|id| names.user(id));
            let address = user.map_or(watcher.address.as_ref(), |user| user.email.as_ref());
            json!({ "address": address, "username": user.map(|user| &user.username) })
        };
        ticket.watchers(role).iter().map(person).collect()
    };
    let field = |(field, values): (&CustomField, &[String])| {
        let value = if field.is_multiple() { json!(values) } else { json!(values.first()) };
        (field.name.clone(), value)
    };
    let added = i64::try_from(draft.transactions.len()).unwrap_or(i64::MAX);
    let updated_at = draft.transactions.last().map_or(ticket.updated_at, |last| last.created_at);
    let mut value = json!({
        "id": if is_hashed(is_new) { uuid::Uuid::nil() } else { ticket.id.0 },
        "number": if is_hashed(is_new) { None } else { ticket.number },
        "subject": ticket.subject,
        "queue": { "id": ticket.queue, "name": names.queue(ticket.queue) },
        "status": ticket.status,
        "owner": username(ticket.owner),
        "creator": username(Some(ticket.creator)),
        "priority": ticket.priority,
        "requestors": people(Role::Requestor),
        "cc": people(Role::Cc),
        "admin_cc": people(Role::AdminCc),
        "custom_fields": names.fields(ticket).map(field).collect::<Map<_, _>>(),
        "created_at": time(Some(ticket.created_at)),
        "updated_at": time(Some(updated_at)),
        "started_at": time(ticket.started_at),
        "resolved_at": time(ticket.resolved_at),
        "due_at": time(ticket.due_at),
        "told_at": time(ticket.told_at),
        "version": if is_hashed(true) { 0 } else { ticket.version.saturating_add(added) },
    });
    tense.fix(&mut value);
    value
}

fn canonical(webhook: &Webhook) -> Value {
    json!(["webhook", webhook.method, webhook.url, webhook.headers, webhook.body, webhook.secret])
}
