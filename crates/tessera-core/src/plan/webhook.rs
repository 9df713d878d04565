//! Webhooks: the HTTP request that an action sends. The transport adds the signature and the values of secrets.

use super::intent::{Intent, Message};
use super::variables::Variables;
use super::words::{Bench, Unready, Words};
use crate::models::delivery::{DEPTH_HEADER, HeaderValue, Webhook};
use crate::scrip::action::webhook::{Webhook as Action, WebhookHeader};
use crate::scrip::template::Template;
use serde_json::{Value, json};
use std::collections::BTreeMap;
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
            let text = template
                .json_body()
                .map_err(|fault| Unready::Failed(format!("body_template as JSON: {fault}")))?;
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
    let mut values = Variables::new(snapshot.draft, words.tense).of(snapshot.transaction);
    let mut take = |name: &str| values.remove(name).unwrap_or_default();
    let kind = snapshot.transaction.transaction_type.as_str().to_lowercase();
    let document = json!({
        "type": format!("ticket.{kind}"),
        "timestamp": take("now"),
        "data": { "ticket": take("ticket"), "transaction": take("transaction"), "actor": take("actor") },
    });
    let body = document.to_string();
    words.spend(body.len())?;
    Ok(body)
}

fn canonical(webhook: &Webhook) -> Value {
    json!(["webhook", webhook.method, webhook.url, webhook.headers, webhook.body, webhook.secret])
}
