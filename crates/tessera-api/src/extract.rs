//! Extractors: JSON bodies, callers, conditions, tickets, pages. Their rejections are problem documents that say what to send.

use crate::error::Problem;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use sha2::{Digest, Sha256};
use tessera_core::desk::reads::TicketRef;
use tessera_core::desk::{Caller, Conditions, IdempotencyKey, KEY_MAX, parse_depth};
use tessera_core::models::delivery::DEPTH_HEADER;
use tessera_core::models::json::Unique;
use tessera_core::models::page::{LIMIT_DEFAULT, LIMIT_MAX};
use tessera_core::{Code, Error};

/// A JSON body, with the hash of the request for its idempotency key.
#[derive(Debug)]
pub struct Body<T> {
    /// The parsed body.
    pub value: T,
    /// SHA-256 over method, path and bytes.
    pub hash: Vec<u8>,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let content_type =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let media_type = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        if media_type != "application/json" && !media_type.ends_with("+json") {
            let detail = "Send the body as JSON, with the header Content-Type: application/json.";
            return Err(Error::new(Code::UnsupportedMediaType, detail).into());
        }
        let mut hasher = Sha256::new();
        hasher.update(request.method().as_str());
        hasher.update([0]);
        hasher.update(request.uri().path());
        hasher.update([0]);
        // It has arrived, and is no larger than allowed: see `app::receive`.
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| Error::internal("An internal error occurred.", rejection))?;
        hasher.update(&bytes);
        Ok(Self { value: parse(&bytes)?, hash: hasher.finalize().to_vec() })
    }
}

/// Parses a JSON object; faults name their path.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let is_object = bytes.trim_ascii_start().first() == Some(&b'{');
    if !is_object && serde_json::from_slice::<IgnoredAny>(bytes).is_ok() {
        // Serde would accept an array as an object whose members are given in order.
        return Err(Error::invalid_field("body", "must be a JSON object: {\"member\": value, ..}").into());
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(Unique(&mut reader)).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_data() {
            let message = inner.to_string();
            // The path says more than "at line 1 column 7" of a body that no person typed.
            let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
            let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
            let field = match (path.as_str(), missing) {
                (".", Some(member)) => member.to_owned(),
                (path, Some(member)) => format!("{path}.{member}"),
                (".", None) => "body".to_owned(),
                (path, None) => path.to_owned(),
            };
            let message = missing.map_or_else(|| message.to_owned(), |_| "is missing".to_owned());
            return Error::invalid_field(field, message);
        }
        Error::new(Code::MalformedJson, format!("The body is not valid JSON: {inner}."))
    })?;
    reader
        .end()
        .map_err(|error| Error::new(Code::MalformedJson, format!("The body is not valid JSON: {error}.")))?;
    Ok(parsed)
}

/// The ticket in the path, by number or id.
#[derive(Debug, Clone, Copy)]
pub struct Ticket(pub TicketRef);

impl<S: Send + Sync> FromRequestParts<S> for Ticket {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Name(word) = Name::from_request_parts(parts, state).await?;
        Ok(Self(word.parse()?))
    }
}

/// A name or an id in the path.
#[derive(Debug, Clone)]
pub struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Segments(word) = Segments::from_request_parts(parts, state).await?;
        Ok(Self(word))
    }
}

/// Several segments of the path, in order: names, and numbers of versions or transactions.
#[derive(Debug, Clone)]
pub struct Segments<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(segments)| Self(segments)).map_err(|rejection| {
            let is_text = !matches!(
                &rejection,
                PathRejection::FailedToDeserializePathParams(fault)
                    if matches!(fault.kind(), ErrorKind::InvalidUtf8InPathParam { .. })
            );
            if is_text {
                // Nothing has a number that is not one.
                return Error::not_found("resource", parts.uri.path()).into();
            }
            let detail = "The path is not valid UTF-8; percent-encode it as UTF-8.";
            Error::new(Code::MalformedPath, detail).into()
        })
    }
}

/// The caller that authentication attached to the request.
#[derive(Debug, Clone)]
pub struct Authenticated(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Caller>().cloned();
        let missing =
            || Error::internal("An internal error occurred.", "the route is served without authentication");
        Ok(Self(caller.ok_or_else(missing)?))
    }
}

/// A request to change or preview a ticket, in one value: who asks, which ticket, under which conditions, and what.
#[derive(Debug)]
pub struct ApiRequest<B, T = ()> {
    /// The caller, at the depth of `Tessera-Depth`.
    pub caller: Caller,
    /// The ticket in the path; `()` for a create.
    pub ticket: T,
    /// `If-Match`, `If-Plan` and `Idempotency-Key`.
    pub conditions: Conditions,
    /// The JSON body.
    pub body: B,
}

impl<B, T, S> FromRequest<S> for ApiRequest<B, T>
where
    B: DeserializeOwned,
    T: FromRequestParts<S, Rejection: Into<Problem>> + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let ticket = T::from_request_parts(&mut parts, state).await.map_err(Into::into)?;
        let Authenticated(caller) = Authenticated::from_request_parts(&mut parts, state).await?;
        let (version, plan) = (if_match(&parts.headers)?, if_plan(&parts.headers)?);
        let key = idempotency_key(&parts.headers)?;
        let caller = caller.at_depth(depth(&parts.headers)?);
        let Body { value, hash } = Body::from_request(Request::from_parts(parts, body), state).await?;
        let key = key.map(|key| IdempotencyKey { key, body_hash: hash });
        Ok(Self { caller, ticket, conditions: Conditions { version, plan, key }, body: value })
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Error> {
    let unreadable = |_| {
        Error::new(Code::MalformedHeader, format!("The header {name} has characters that are not ASCII."))
    };
    headers.get(name).map(|value| value.to_str().map_err(unreadable)).transpose()
}

fn if_match(headers: &HeaderMap) -> Result<Option<i64>, Error> {
    let Some(value) = text(headers, "If-Match")?.map(str::trim).filter(|value| *value != "*") else {
        return Ok(None);
    };
    let tag = value.strip_prefix("W/").unwrap_or(value);
    let digits = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(value);
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number).map(Some).ok_or_else(|| {
        let detail = format!("The header If-Match is {value}; send the ETag of the ticket, such as \"7\".");
        Error::new(Code::MalformedHeader, detail)
    })
}

fn if_plan(headers: &HeaderMap) -> Result<Option<tessera_core::plan::PlanHash>, Error> {
    let Some(value) = text(headers, "If-Plan")? else { return Ok(None) };
    value.parse().map(Some).map_err(|_| {
        let detail = "The header If-Plan is not a plan_hash: send the 64 hex digits that a preview returned.";
        Error::new(Code::MalformedHeader, detail)
    })
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(value) = text(headers, "Idempotency-Key")? else { return Ok(None) };
    if value.is_empty()
        || value.len() > KEY_MAX
        || !value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    {
        let detail =
            format!("The header Idempotency-Key must be 1 to {KEY_MAX} visible ASCII characters or spaces.");
        return Err(Error::new(Code::MalformedHeader, detail));
    }
    Ok(Some(value.to_owned()))
}

/// `Tessera-Depth`: the length of the chain of deliveries that led to the request; 0 without the header.
fn depth(headers: &HeaderMap) -> Result<u32, Error> {
    text(headers, DEPTH_HEADER)?.map_or(Ok(0), parse_depth)
}

/// The query parameters; a fault names the known ones.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(value)| Self(value)).map_err(|rejection| {
            let detail = format!("The query string is malformed: {}.", rejection.body_text());
            Error::new(Code::MalformedQuery, detail).into()
        })
    }
}

/// The page of a list.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    /// Items per page, 1 to 200; 50 by default.
    pub limit: Option<i64>,
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
}

/// How many scrips are explained.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// `all` also lists the scrips that were not candidates, each with the gate that kept it out.
    #[param(inline)]
    pub explain: Option<ExplainWhat>,
}

/// The scrips that are explained besides the evaluated ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExplainWhat {
    /// Every scrip.
    All,
}

/// Checks the number of items per page.
///
/// # Errors
/// `invalid` outside 1 to 200.
pub fn limit(limit: Option<i64>) -> Result<i64, Error> {
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if (1..=LIMIT_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(Error::invalid_field("limit", format!("is {limit}; it must be 1 to {LIMIT_MAX}")))
}
