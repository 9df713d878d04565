//! The action `Webhook`: an HTTP request to a fixed server, with templates in its path, query, headers and body.

use super::read::{bounded, template};
use crate::error::Fault;
use crate::scrip::template::{Compiled, Mode as Escape};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use url::Url;

const METHODS: [&str; 5] = ["POST", "PUT", "PATCH", "DELETE", "GET"];
/// Headers that the transport sets.
const OWN_HEADERS: [&str; 9] = [
    "tessera-depth",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "user-agent",
];

/// The configuration of `Webhook`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// `https://host[:port]/path?query`; scheme, host and port are literal, path and query may be templates.
    pub url: String,
    /// One of POST, PUT, PATCH, DELETE and GET; default `POST`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Headers by name. A value is a template, or `{"secret": name}`.
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderConfig>,
    /// A template. Values in it are escaped as JSON, unless a Content-Type header names another type. Default: the body of
    /// the scrip's template, or without a template a document with the ticket and the transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The name of the secret (`whsec_…`) that signs the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// The value of a webhook's header, as configured.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum HeaderConfig {
    /// A template.
    Text(String),
    /// The value of a secret.
    Secret(SecretName),
}

/// A reference to a secret.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretName {
    /// The secret's name.
    pub secret: String,
}

/// A compiled `Webhook`.
#[derive(Debug)]
pub struct Webhook {
    /// Scheme, host and port: literal, so that no value can redirect the request to another server.
    pub origin: Url,
    /// Path and query.
    pub target: Compiled,
    /// The HTTP method.
    pub method: String,
    /// Headers by name.
    pub headers: BTreeMap<String, WebhookHeader>,
    /// The body; `None` for that of the scrip's template, or the default document.
    pub body: Option<Compiled>,
    /// The name of the secret that signs the request.
    pub secret: Option<String>,
}

/// A compiled header value.
#[derive(Debug)]
pub enum WebhookHeader {
    /// A template.
    Text(Compiled),
    /// The value of the secret of this name.
    Secret(String),
}

impl Webhook {
    pub(super) fn compile(config: WebhookConfig) -> Result<Self, Vec<Fault>> {
        let (origin, target) = split_url(&config.url)?;
        let method = config.method.unwrap_or_else(|| "POST".to_owned()).to_ascii_uppercase();
        if !METHODS.contains(&method.as_str()) {
            let message = format!("\"{method}\" is not one of {}", METHODS.join(", "));
            return Err(vec![Fault::new("action_config.method", message)]);
        }
        bounded("headers", config.headers.len())?;
        let json = config.headers.iter().all(|(name, value)| {
            !name.eq_ignore_ascii_case("content-type")
                || matches!(value, HeaderConfig::Text(text) if text.to_ascii_lowercase().contains("json"))
        });
        let mut headers = BTreeMap::new();
        for (name, value) in config.headers {
            let place = format!("headers.{name}");
            check_header_name(&place, &name)?;
            if headers.keys().any(|other: &String| other.eq_ignore_ascii_case(&name)) {
                let message = "is listed twice, with different capitalization; keep one";
                return Err(vec![Fault::new(format!("action_config.{place}"), message)]);
            }
            let value = match value {
                HeaderConfig::Text(text) => WebhookHeader::Text(template(&place, &text, Escape::Line)?),
                HeaderConfig::Secret(SecretName { secret }) => WebhookHeader::Secret(secret),
            };
            headers.insert(name, value);
        }
        let escape = if json { Escape::Json } else { Escape::Text };
        let body = config.body.map(|text| template("body", &text, escape)).transpose()?;
        Ok(Self {
            origin,
            target: template("url", &target, Escape::UrlPart)?,
            method,
            headers,
            body,
            secret: config.secret,
        })
    }

    pub(super) fn texts(&self) -> Vec<&Compiled> {
        let headers = self.headers.values().filter_map(|value| match value {
            WebhookHeader::Text(text) => Some(text),
            WebhookHeader::Secret(_) => None,
        });
        std::iter::once(&self.target).chain(headers).chain(&self.body).collect()
    }

    /// Returns the names of the secrets in its headers, and of the one that signs it.
    pub fn secrets(&self) -> Vec<&str> {
        let headers = self.headers.values().filter_map(|value| match value {
            WebhookHeader::Secret(name) => Some(name.as_str()),
            WebhookHeader::Text(_) => None,
        });
        headers.chain(self.secret.as_deref()).collect()
    }
}

fn check_header_name(place: &str, name: &str) -> Result<(), Vec<Fault>> {
    let fault = |message: String| Err(vec![Fault::new(format!("action_config.{place}"), message)]);
    if reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_err() {
        return fault("is not a valid header name: use letters, digits and hyphens".to_owned());
    }
    if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        return fault(format!("{name} is set by Tessera; remove it"));
    }
    Ok(())
}

/// Splits a URL at the start of its path. The part before must be literal.
fn split_url(url: &str) -> Result<(Url, String), Vec<Fault>> {
    let fault = |message: &str| vec![Fault::new("action_config.url", message)];
    let authority = url
        .find("://")
        .map(|scheme| scheme + 3)
        .ok_or_else(|| fault("must begin with https:// or http://"))?;
    let end = url
        .char_indices()
        .find(|(at, c)| *at >= authority && matches!(c, '/' | '?' | '#' | '\\'))
        .map_or(url.len(), |(at, _)| at);
    let (head, target) = url.split_at(end);
    if head.contains(['{', '}']) {
        return Err(fault("scheme, host and port must be literal; only path and query can be templates"));
    }
    let origin = Url::parse(head).map_err(|error| fault(&format!("is not a valid URL: {error}")))?;
    if !matches!(origin.scheme(), "http" | "https") || origin.host().is_none() {
        return Err(fault("must begin with https:// or http:// and name a host"));
    }
    if !origin.username().is_empty() || origin.password().is_some() {
        return Err(fault(
            "must not contain a username or password; store credentials as a secret and send them in a header",
        ));
    }
    if target.contains('#') && !target.contains("{#") {
        return Err(fault("must not have a fragment (#): it is never sent"));
    }
    Ok((origin, target.to_owned()))
}
