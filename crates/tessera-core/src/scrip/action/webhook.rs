//! The action `Webhook`: an HTTP request to a fixed server, with templates in its path, query, headers and body.

use super::read::{bounded, template};
use crate::error::Fault;
use crate::models::delivery::is_reserved_header;
use crate::scrip::mention::is_template;
use crate::scrip::template::{Compiled, Mode as Escape};
use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use url::Url;

const METHODS: [&str; 5] = ["POST", "PUT", "PATCH", "DELETE", "GET"];
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
    /// A template. Values in it are escaped as the Content-Type header requires: JSON (the default), forms, XML, HTML; for other
    /// types they are not changed. Default: the body of the scrip's template, or without a template a JSON document with the
    /// ticket and the transaction.
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
    /// How values in the body are escaped.
    pub escape: Escape,
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
        let escape = escape_of(&config.headers)?;
        let mut headers = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (name, value) in config.headers {
            let place = format!("headers.{name}");
            check_header_name(&place, &name)?;
            if !seen.insert(name.to_ascii_lowercase()) {
                let message = "is listed twice, with different capitalization; keep one";
                return Err(vec![Fault::new(format!("action_config.{place}"), message)]);
            }
            let value = match value {
                HeaderConfig::Text(text) => WebhookHeader::Text(template(&place, &text, Escape::Line)?),
                HeaderConfig::Secret(SecretName { secret }) => WebhookHeader::Secret(secret),
            };
            headers.insert(name, value);
        }
        let body = config.body.map(|text| template("body", &text, escape)).transpose()?;
        Ok(Self {
            origin,
            target: template("url", &target, Escape::UrlPart)?,
            method,
            headers,
            body,
            escape,
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
    if is_reserved_header(name) {
        return fault(format!("{name} belongs to Tessera or to the connection; remove it"));
    }
    Ok(())
}

/// Returns how values in the body are escaped, which the media type in the `Content-Type` header decides. It must be literal.
fn escape_of(headers: &BTreeMap<String, HeaderConfig>) -> Result<Escape, Vec<Fault>> {
    let header = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let Some((name, value)) = header else { return Ok(Escape::Json) };
    let literal = match value {
        HeaderConfig::Text(text) if !is_template(text) => text.to_ascii_lowercase(),
        _ => {
            let message = "must be literal, because it decides how values in the body are escaped";
            return Err(vec![Fault::new(format!("action_config.headers.{name}"), message)]);
        }
    };
    let media_type = literal.split(';').next().unwrap_or_default().trim();
    Ok(match media_type {
        "application/x-www-form-urlencoded" => Escape::Form,
        "text/html" => Escape::Html,
        xml if xml.ends_with("/xml") || xml.ends_with("+xml") => Escape::Xml,
        json if json.contains("json") => Escape::Json,
        _ => Escape::Text,
    })
}

/// Returns how values in the body of a webhook with this configuration are escaped; `None` if the configuration is invalid.
pub fn escape_of_body(config: &Value) -> Option<Escape> {
    escape_of(&WebhookConfig::deserialize(config).ok()?.headers).ok()
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
    if !is_template(target)
        && let Some(reason) = climbs(target)
    {
        return Err(fault(&reason));
    }
    Ok((origin, target.to_owned()))
}

/// Returns the reason why the path of a target could lead to another resource of the receiver than it names: a segment `.` or `..`,
/// in whatever encoding a receiver may read it.
pub fn climbs(target: &str) -> Option<String> {
    path_of(target).split(['/', '\\']).find(|segment| is_climbing(segment)).map(|segment| {
        format!("the path contains the segment \"{segment}\", which leads to another path; remove it")
    })
}

/// Returns the reason why a rendered target does not name the resource that its template names: see [`climbs`], or a segment whose
/// value is empty, which receivers skip.
pub fn leads_elsewhere(rendered: &str, template: &str) -> Option<String> {
    let empty =
        |path: &str| path.trim_start_matches('/').split('/').filter(|segment| segment.is_empty()).count();
    let (path, pattern) = (path_of(rendered), path_of(template));
    let is_empty = !path.is_empty() && empty(path) > empty(pattern) && !pattern.ends_with("%}");
    climbs(rendered)
        .or_else(|| is_empty.then(|| "a value in the path is empty, which names another path".to_owned()))
}

fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

/// Whether a receiver that decodes a segment, as often as it likes, finds `.` or `..` in it.
fn is_climbing(segment: &str) -> bool {
    /// The most encodings within each other that are looked through. What is nested deeper is refused.
    const DECODED: usize = 8;
    let mut decoded = segment.to_owned();
    for _ in 0..DECODED {
        let parts = decoded.split(['/', '\\']).map(|part| part.trim_matches(|c: char| c.is_ascii_control()));
        if parts.into_iter().any(|part| matches!(part, "." | "..")) {
            return true;
        }
        match percent_decode_str(&decoded).decode_utf8_lossy() {
            next if next == decoded.as_str() => return false,
            next => decoded = next.into_owned(),
        }
    }
    true
}
