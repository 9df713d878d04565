//! Webhooks: one signed HTTP request per attempt, through the address guard, with one deadline and a limit on the response body.

use super::guard::{Guard, GuardedResolver, Refused, SystemResolver};
use super::mask::Mask;
use super::retry::{TROUBLE_WAIT, retry_after};
use super::sign::{ID_HEADER, SIGNATURE_HEADER, SigningKey, TIMESTAMP_HEADER};
use super::{Attempt, Health, Leased, Outcome};
use crate::error::{Error, Result};
use crate::models::delivery::{DEPTH_HEADER, HeaderValue, Payload, Webhook, is_reserved_header};
use crate::models::secret::Secret;
use reqwest::dns::Resolve;
use reqwest::header::{self, HeaderMap, HeaderName};
use reqwest::{Method, Request, Response, StatusCode};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tokio::time::Instant as Moment;
use url::Url;

/// The maximum duration of an attempt, from name resolution to the end of the response body.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// The part of it that name resolution and connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum length of a response body that is read, in bytes; the rest is not read.
const READ_MAX: usize = 64 * 1024;
/// The maximum number of headers of a response, and their maximum size in bytes. A receiver behind a proxy adds many, and only the
/// status decides.
const HEADERS_MAX: usize = 8_192;
/// See [`HEADERS_MAX`]; the limit of HTTP/1 is the same.
const HEADERS_SIZE_MAX: u32 = 400 * 1024;
/// The maximum idle time of a connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// The maximum number of idle connections per host.
const IDLE_PER_HOST: usize = 4;
/// The value of the `User-Agent` header.
const USER_AGENT: &str = concat!("tessera/", env!("CARGO_PKG_VERSION"));

/// Secrets by name; they are read just before an attempt and dropped after it.
pub type Secrets = BTreeMap<String, Secret>;

/// Returns the names of the secrets that an attempt needs.
pub fn secret_names(webhook: &Webhook) -> BTreeSet<&str> {
    let in_headers = webhook.headers.values().filter_map(|value| match value {
        HeaderValue::Secret { secret } => Some(secret.as_str()),
        HeaderValue::Text(_) => None,
    });
    in_headers.chain(webhook.secret.as_deref()).collect()
}

/// A transport for webhooks. A process has only one, which keeps connections open between attempts.
pub struct WebhookTransport {
    client: reqwest::Client,
    guard: Guard,
    deadline: Duration,
}

impl WebhookTransport {
    /// Creates a transport that connects only to addresses that the guard allows.
    ///
    /// # Errors
    /// `internal` if the HTTP client cannot be created.
    pub fn new(guard: Guard) -> Result<Self> {
        Self::with_resolver(guard, Arc::new(SystemResolver), DEADLINE)
    }

    fn with_resolver(guard: Guard, resolver: Arc<dyn Resolve>, deadline: Duration) -> Result<Self> {
        // The client uses the default provider of the process; it is not an error if it is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let resolver = Arc::new(GuardedResolver::new(guard.clone(), resolver));
        let builder = || {
            reqwest::Client::builder()
                .dns_resolver(Arc::clone(&resolver))
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .connect_timeout(CONNECT_TIMEOUT)
                .http1_max_headers(HEADERS_MAX)
                .http2_max_header_list_size(HEADERS_SIZE_MAX)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(IDLE_PER_HOST)
                .user_agent(USER_AGENT)
        };
        let client = builder().build().or_else(|error| {
            tracing::warn!(%error, "no CA certificates found, so https webhooks will fail; install ca-certificates");
            builder().tls_certs_only([]).build()
        });
        let client = client.map_err(|error| Error::internal("the HTTP client cannot be created", error))?;
        Ok(Self { client, guard, deadline })
    }

    /// Makes one attempt. `now` is the time in the signature, which the receiver compares with its clock; `secrets` contains the
    /// existing secrets of [`secret_names`]. Every failure becomes the outcome of the attempt.
    pub async fn send(&self, leased: &Leased, secrets: &Secrets, now: OffsetDateTime) -> Attempt {
        let started = Instant::now();
        let Payload::Webhook(webhook) = &leased.delivery.payload else {
            return Attempt::new(Outcome::Permanent, "this delivery is not a webhook");
        };
        let attempt = match self.request(leased, webhook, secrets, now) {
            Ok(request) => self.exchange(request, now).await,
            Err(attempt) => attempt,
        };
        let mut attempt = without_secrets(attempt, webhook, secrets);
        attempt.duration = started.elapsed();
        attempt
    }

    /// Returns the request, or the failed attempt if it cannot be built.
    fn request(
        &self,
        leased: &Leased,
        webhook: &Webhook,
        secrets: &Secrets,
        now: OffsetDateTime,
    ) -> std::result::Result<Request, Attempt> {
        let permanent = |detail: String| Attempt::new(Outcome::Permanent, detail);
        let url =
            Url::parse(&webhook.url).map_err(|error| permanent(format!("the URL is invalid: {error}")))?;
        self.guard
            .check_literal(&url)
            .map_err(|refused| Attempt::new(Outcome::Retry, refused.to_string()))?;
        let method = Method::from_bytes(webhook.method.as_bytes())
            .map_err(|_| permanent(format!("\"{}\" is not a valid HTTP method", webhook.method)))?;

        let mut request = Request::new(method, url);
        *request.headers_mut() = headers(webhook, secrets)?;
        let (id, timestamp) = (leased.delivery.id.to_string(), now.unix_timestamp());
        let mut ours = vec![(TIMESTAMP_HEADER, timestamp.to_string())];
        if let Some(name) = &webhook.secret {
            let (_, key) = signing_key(secrets, name)?;
            ours.push((SIGNATURE_HEADER, key.sign(&id, timestamp, webhook.body.as_bytes())));
        }
        ours.push((ID_HEADER, id));
        for (name, value) in ours {
            let value = value.parse().map_err(|_| permanent(format!("{name} cannot be written")))?;
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        *request.body_mut() = Some(webhook.body.clone().into());
        Ok(request)
    }

    async fn exchange(&self, request: Request, now: OffsetDateTime) -> Attempt {
        let deadline = Moment::now() + self.deadline;
        let response = match tokio::time::timeout_at(deadline, self.client.execute(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return unanswered(&error),
            Err(_) => {
                let detail = format!("no answer within {} s", self.deadline.as_secs_f32());
                return Attempt::new(Outcome::Retry, detail)
                    .with_health(Health::Fails)
                    .with_wait(TROUBLE_WAIT);
            }
        };
        let status = response.status();
        let (outcome, detail) = judge(status);
        let asked = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let asked = asked.and_then(|value| retry_after(value, now)).unwrap_or_default();
        let wait = if status == StatusCode::TOO_MANY_REQUESTS { asked.max(TROUBLE_WAIT) } else { asked };
        let (body, cut) = read(response, deadline).await;
        let mut attempt = Attempt::new(outcome, format!("{detail}{cut}"))
            .with_status(status.as_u16())
            .with_health(health(status))
            .with_wait(wait);
        attempt.response = Some(body);
        attempt
    }
}

/// Returns the outcome for a status. As in Standard Webhooks, only 2xx is a success, 410 is permanent, and everything else is
/// retried by schedule.
fn judge(status: StatusCode) -> (Outcome, String) {
    match status {
        status if status.is_success() => (Outcome::Delivered, status.to_string()),
        StatusCode::GONE => {
            (Outcome::Permanent, "410 Gone: the receiver no longer accepts this webhook".to_owned())
        }
        status if status.is_redirection() => (
            Outcome::Retry,
            format!(
                "{status}: redirects are not followed; use the target of the redirect as the URL in the scrip"
            ),
        ),
        status => (Outcome::Retry, status.to_string()),
    }
}

/// Returns the health of the endpoint for a status: an endpoint that rejects a single URL or request works.
fn health(status: StatusCode) -> Health {
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Health::Fails,
        status if status.is_server_error() => Health::Fails,
        _ => Health::Works,
    }
}

/// Returns the scrip's headers with the values of their secrets, and `Content-Type: application/json` if it has none.
pub(super) fn headers(webhook: &Webhook, secrets: &Secrets) -> std::result::Result<HeaderMap, Attempt> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    for (name, value) in &webhook.headers {
        let key = HeaderName::from_bytes(name.as_bytes())
            .ok()
            .filter(|_| !is_reserved_header(name) || name.eq_ignore_ascii_case(DEPTH_HEADER))
            .ok_or_else(|| {
                Attempt::new(Outcome::Permanent, format!("the header \"{name}\" cannot be set by a scrip"))
            })?;
        let mut line = match value {
            HeaderValue::Text(text) => header::HeaderValue::from_str(text).map_err(|_| {
                Attempt::new(
                    Outcome::Permanent,
                    format!("the value of the header \"{name}\" contains a control character"),
                )
            })?,
            // An operator can correct a secret, so the delivery is retried.
            HeaderValue::Secret { secret: of } => {
                header::HeaderValue::from_str(secret(secrets, of)?.expose()).map_err(|_| {
                    Attempt::new(
                        Outcome::Retry,
                        format!("secret \"{of}\" contains a line break, so it cannot be used in a header"),
                    )
                })?
            }
        };
        line.set_sensitive(matches!(value, HeaderValue::Secret { .. }));
        headers.insert(key, line);
    }
    Ok(headers)
}

fn secret<'a>(secrets: &'a Secrets, name: &str) -> std::result::Result<&'a Secret, Attempt> {
    secrets.get(name).ok_or_else(|| {
        Attempt::new(
            Outcome::Retry,
            format!("secret \"{name}\" does not exist; create it with PUT /api/secrets/{name}"),
        )
    })
}

/// Returns the secret that signs, and its key.
pub(super) fn signing_key<'a>(
    secrets: &'a Secrets,
    name: &str,
) -> std::result::Result<(&'a Secret, SigningKey), Attempt> {
    let secret = secret(secrets, name)?;
    let key = SigningKey::parse(secret)
        .map_err(|fault| Attempt::new(Outcome::Retry, format!("secret \"{name}\" cannot sign: {fault}")))?;
    Ok((secret, key))
}

/// Returns the attempt for secrets that cannot be read.
pub(super) fn without_secrets_store() -> Attempt {
    Attempt::new(Outcome::Retry, "the secrets cannot be read: the database does not respond")
}

/// Reads a response body up to [`READ_MAX`] and the deadline. The status decides whatever happens to the body, because a receiver
/// that accepted the webhook must not get it again. The second text describes why reading stopped, if not at the end.
async fn read(mut response: Response, deadline: Moment) -> (String, &'static str) {
    let mut body = Vec::new();
    let cut = loop {
        match tokio::time::timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(chunk))) if body.len() + chunk.len() <= READ_MAX => body.extend_from_slice(&chunk),
            Ok(Ok(Some(chunk))) => {
                body.extend(chunk.iter().take(READ_MAX - body.len()));
                break "; the response body exceeds the read limit";
            }
            Ok(Ok(None)) => break "",
            Ok(Err(_)) => break "; the response body is incomplete",
            Err(_) => break "; the response body did not end in time",
        }
    };
    (String::from_utf8_lossy(&body).into_owned(), cut)
}

/// Returns the attempt for a request without a response: the guard's refusal, or else the innermost error.
fn unanswered(error: &reqwest::Error) -> Attempt {
    let mut cause: Option<&dyn StdError> = Some(error);
    let mut bottom = String::new();
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref::<Refused>() {
            return Attempt::new(Outcome::Retry, refused.to_string());
        }
        bottom = error.to_string();
        cause = error.source();
    }
    let (detail, wait) = if error.is_timeout() {
        (format!("could not connect within {} s", CONNECT_TIMEOUT.as_secs()), TROUBLE_WAIT)
    } else if error.is_connect() {
        (format!("could not connect: {bottom}"), Duration::ZERO)
    } else {
        (format!("the request failed: {bottom}"), Duration::ZERO)
    };
    Attempt::new(Outcome::Retry, detail).with_health(Health::Fails).with_wait(wait)
}

/// Masks the secrets of a webhook in an attempt: a receiver may send back what it got.
pub(super) fn without_secrets(attempt: Attempt, webhook: &Webhook, secrets: &Secrets) -> Attempt {
    let known = secret_names(webhook).into_iter();
    Mask::new(known.filter_map(|name| Some((name, secrets.get(name)?.expose())))).attempt(attempt)
}

#[cfg(test)]
mod tests;
