//! Mail by SMTP: one session per attempt, with a separate answer for each recipient.

use super::email::{Built, build};
use super::mask::Mask;
use super::retry::TROUBLE_WAIT;
use super::{Attempt, Health, Leased, Outcome, RecipientAnswer, sentence};
use crate::error::{Error, Result};
use crate::models::delivery::Payload;
use lettre::Address;
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Tls, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use lettre::transport::smtp::response::Response;
use percent_encoding::percent_decode_str;
use std::error::Error as _;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use url::Url;

/// The timeout for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout for everything before the message, from the greeting to the last recipient (RFC 5321: minutes).
const DIALOGUE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// The timeout for the message itself (RFC 5321, 4.5.3.2.6: ten minutes); aborting earlier would cause duplicates.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// The maximum number of idle connections.
const IDLE_MAX: usize = 8;
/// The maximum idle time of a connection.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// "Authentication required" or "must issue STARTTLS first": a reply to MAIL that is about the connection.
const NOT_AUTHENTICATED: u16 = 530;
/// "Closing": the reply on a connection that the server closes because it was idle for too long.
const CLOSING: u16 = 421;

/// A transport through one mail server. A process has only one, which keeps connections open between emails.
pub struct SmtpTransport {
    host: String,
    port: u16,
    tls: Tls,
    credentials: Option<Credentials>,
    mask: Mask,
    hello: ClientId,
    dialogue: Duration,
    idle: Mutex<Vec<(Instant, AsyncSmtpConnection)>>,
}

impl SmtpTransport {
    /// Creates a transport to `smtp://[user:password@]host[:port][?tls=required|opportunistic|none]` or `smtps://…`. `hello` is
    /// the name for EHLO: the machine's name, or the domain of the sender.
    ///
    /// `smtp` uses STARTTLS if the server offers it, without verifying the certificate: an attacker who could forge it could
    /// also remove the offer. With `tls=required`, with `smtps`, and with a password for another machine, the connection must be
    /// encrypted and the certificate valid, or nothing is sent. Ports: 25, with a user 587, `smtps` 465.
    ///
    /// # Errors
    /// An error about `mail.smtp_url` that does not contain the password.
    pub fn new(url: &str, hello: &str) -> Result<Self> {
        let fault = |message: String| Error::invalid_field("mail.smtp_url", message);
        let url =
            Url::parse(url).map_err(|error| fault(format!("is not a URL: {error}; use smtp://host:port")))?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(fault("has no host; use smtp://host:port".to_owned()));
        }
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(fault("contains more than a host and a port; use smtp://host:port".to_owned()));
        }
        let credentials = credentials(&url).map_err(fault)?;
        let password = url.password().map(|text| percent_decode_str(text).decode_utf8_lossy());
        let mask = Mask::new(password.as_deref().map(|password| ("mail.smtp_url", password)));
        let wish = wish(&url).map_err(fault)?;
        let tls = tls(&url, &host, wish.as_deref(), credentials.is_some()).map_err(fault)?;
        let port = url.port().unwrap_or(match (url.scheme(), &credentials) {
            ("smtps", _) => smtp::SUBMISSIONS_PORT,
            (_, Some(_)) => smtp::SUBMISSION_PORT,
            (_, None) => smtp::SMTP_PORT,
        });
        let hello = match hello.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => ClientId::Ipv4(ip),
            Ok(IpAddr::V6(ip)) => ClientId::Ipv6(ip),
            Err(_) if hello.is_empty() || hello.contains(|c: char| !c.is_ascii_graphic()) => {
                ClientId::default()
            }
            Err(_) => ClientId::Domain(hello.to_owned()),
        };
        let idle = Mutex::default();
        Ok(Self { host, port, tls, credentials, mask, hello, dialogue: DIALOGUE_TIMEOUT, idle })
    }

    /// Makes one attempt for the recipients that have no final answer yet. Every failure becomes the outcome of the attempt.
    pub async fn send(&self, leased: &Leased) -> Attempt {
        let started = Instant::now();
        let Payload::Email(email) = &leased.delivery.payload else {
            return Attempt::new(Outcome::Permanent, "this delivery is not an email");
        };
        let mut attempt = match build(leased.delivery.id, leased.delivery.created_at, email) {
            Ok(built) => {
                let (open, settled) = divide(built.envelope.to(), &leased.answered);
                match self.converse(&built, &open).await {
                    Ok((answers, health)) => {
                        conclude(settled.into_iter().chain(answers).collect()).with_health(health)
                    }
                    Err(attempt) => Attempt { recipients: settled, ..attempt },
                }
            }
            Err(fault) => Attempt::new(Outcome::Permanent, fault),
        };
        attempt.duration = started.elapsed();
        self.mask.attempt(attempt)
    }

    /// Connects as for an email, with encryption and password as configured, and disconnects without sending anything. Returns a
    /// sentence that describes the connection.
    ///
    /// # Errors
    /// A sentence with the server's reply, or with the reason why the connection failed.
    pub async fn probe(&self) -> std::result::Result<String, String> {
        let mut connection = self.connect().await.map_err(|error| self.mask.text(&self.words(&error)))?;
        let encrypted = if connection.is_encrypted() { "encrypted" } else { "not encrypted" };
        let user =
            if self.credentials.is_some() { "the password is accepted" } else { "no password is configured" };
        // The result does not depend on the reply to QUIT.
        let _ = connection.quit().await;
        Ok(format!("{}:{} responds, {encrypted}, {user}", self.host, self.port))
    }

    /// Runs a whole session. Returns the answer for each recipient and the health of the server, or the attempt if it ended before
    /// any recipient had an answer.
    async fn converse(
        &self,
        built: &Built,
        recipients: &[Address],
    ) -> std::result::Result<(Vec<RecipientAnswer>, Health), Attempt> {
        if recipients.is_empty() {
            return Ok((Vec::new(), Health::Unknown));
        }
        let silent = |_| {
            Attempt::new(Outcome::Retry, format!("the mail server {} did not answer in time", self.host))
                .with_health(Health::Fails)
                .with_wait(TROUBLE_WAIT)
        };
        let (mut connection, mut answers) =
            timeout(self.dialogue, self.introduce(built, recipients)).await.map_err(silent)??;
        if answers.iter().all(|answer| answer.outcome != Outcome::Delivered) {
            if let Ok(Ok(_)) = timeout(self.dialogue, connection.command(Rset)).await {
                self.keep(connection);
            }
            return Ok((answers, Health::Works));
        }
        let (outcome, answer, health) =
            match timeout(MESSAGE_TIMEOUT, hand_over(&mut connection, &built.message)).await {
                Ok(Ok(response)) => {
                    self.keep(connection);
                    (Outcome::Delivered, said(&response), Health::Works)
                }
                Ok(Err(error)) => (severity(&error), self.words(&error), health_of(&error)),
                Err(elapsed) => return Err(silent(elapsed)),
            };
        // The reply to the message applies to every accepted recipient.
        for taken in answers.iter_mut().filter(|answer| answer.outcome == Outcome::Delivered) {
            (taken.outcome, taken.answer) = (outcome, answer.clone());
        }
        Ok((answers, health))
    }

    /// Sends MAIL, and RCPT for each recipient.
    async fn introduce(
        &self,
        built: &Built,
        recipients: &[Address],
    ) -> std::result::Result<(AsyncSmtpConnection, Vec<RecipientAnswer>), Attempt> {
        let mut connection = self.begin(built).await?;
        let mut answers = Vec::with_capacity(recipients.len());
        for recipient in recipients {
            let (outcome, answer) = match connection.command(Rcpt::new(recipient.clone(), Vec::new())).await {
                Ok(response) => (Outcome::Delivered, said(&response)),
                Err(error) if code(&error).is_some_and(|code| code != CLOSING) => {
                    (severity(&error), self.words(&error))
                }
                Err(error) => return Err(self.broken(&error)),
            };
            answers.push(RecipientAnswer { address: recipient.to_string(), outcome, answer });
        }
        Ok((connection, answers))
    }

    /// Returns a connection on which the server has accepted MAIL.
    async fn begin(&self, built: &Built) -> std::result::Result<AsyncSmtpConnection, Attempt> {
        while let Some(mut connection) = self.take_idle() {
            match connection.command(self.mail(&connection, built)?).await {
                Ok(_) => return Ok(connection),
                Err(error) if code(&error).is_some_and(|code| code != CLOSING) => {
                    return Err(self.refused(&error));
                }
                // The server closed this connection while it was idle; that says nothing about this email.
                Err(_) => {}
            }
        }
        let mut connection = self.connect().await.map_err(|error| self.broken(&error))?;
        let mail = self.mail(&connection, built)?;
        connection.command(mail).await.map_err(|error| self.refused(&error))?;
        Ok(connection)
    }

    fn mail(&self, connection: &AsyncSmtpConnection, built: &Built) -> std::result::Result<Mail, Attempt> {
        let ascii = |address: &Address| address.to_string().is_ascii();
        let plain =
            built.message.is_ascii() && built.envelope.to().iter().chain(built.envelope.from()).all(ascii);
        if plain {
            return Ok(Mail::new(built.envelope.from().cloned(), Vec::new()));
        }
        if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            let detail =
                "an address is not ASCII, and the mail server does not support such addresses (SMTPUTF8)";
            return Err(Attempt::new(Outcome::Permanent, detail));
        }
        Ok(Mail::new(built.envelope.from().cloned(), vec![MailParameter::SmtpUtfEight]))
    }

    async fn connect(&self) -> std::result::Result<AsyncSmtpConnection, smtp::Error> {
        let wrapped = match &self.tls {
            Tls::Wrapper(parameters) => Some(parameters.clone()),
            _ => None,
        };
        let server = (self.host.as_str(), self.port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT_TIMEOUT), &self.hello, wrapped, None)
                .await?;
        match &self.tls {
            Tls::Opportunistic(parameters) if connection.can_starttls() => {
                connection.starttls(parameters.clone(), &self.hello).await?;
            }
            // Fails before any confidential data is sent if the server does not offer it.
            Tls::Required(parameters) => connection.starttls(parameters.clone(), &self.hello).await?,
            _ => {}
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials).await?;
        }
        Ok(connection)
    }

    fn take_idle(&self) -> Option<AsyncSmtpConnection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, _)| since.elapsed() < IDLE_FOR);
        idle.pop().map(|(_, connection)| connection)
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX && !connection.has_broken() {
            idle.push((Instant::now(), connection));
        }
    }

    /// Returns the attempt for a rejected MAIL, which is permanent for a 5xx about the email itself.
    fn refused(&self, error: &smtp::Error) -> Attempt {
        let is_of_mail = error.is_permanent() && code(error) != Some(NOT_AUTHENTICATED);
        let (outcome, health) =
            if is_of_mail { (severity(error), Health::Works) } else { (Outcome::Retry, Health::Fails) };
        Attempt { outcome, health, ..self.broken(error) }
    }

    /// Returns the attempt for an error that is not about this email. It is retried even after a 5xx (a greeting of 554, a wrong
    /// password), because an operator can fix the cause.
    fn broken(&self, error: &smtp::Error) -> Attempt {
        let attempt = Attempt::new(Outcome::Retry, self.words(error)).with_health(Health::Fails);
        match code(error) {
            Some(code) => attempt.with_status(code),
            None => attempt,
        }
    }

    fn words(&self, error: &smtp::Error) -> String {
        let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        match error.status() {
            Some(code) => sentence(&format!("{code} {cause}")),
            None => sentence(&format!("mail server {}:{}: {cause}", self.host, self.port)),
        }
    }
}

async fn hand_over(
    connection: &mut AsyncSmtpConnection,
    message: &[u8],
) -> std::result::Result<Response, smtp::Error> {
    connection.command(Data).await?;
    connection.message(message).await
}

/// Returns the recipients to try, and the final answers for the others.
pub(super) fn divide(
    recipients: &[Address],
    answered: &[RecipientAnswer],
) -> (Vec<Address>, Vec<RecipientAnswer>) {
    let settled: Vec<RecipientAnswer> =
        answered.iter().filter(|answer| answer.outcome != Outcome::Retry).cloned().collect();
    let asked = |address: &&Address| settled.iter().all(|answer| answer.address != address.to_string());
    (recipients.iter().filter(asked).cloned().collect(), settled)
}

/// Returns the attempt for these answers: it is retried while a recipient has no final answer, and is delivered if at least one
/// recipient accepted it.
pub(super) fn conclude(recipients: Vec<RecipientAnswer>) -> Attempt {
    let of = |outcome: Outcome| recipients.iter().filter(move |answer| answer.outcome == outcome);
    let outcome = [Outcome::Retry, Outcome::Delivered]
        .into_iter()
        .find(|outcome| of(*outcome).next().is_some())
        .unwrap_or(Outcome::Permanent);
    let decisive = of(outcome).next().map_or("", |answer| answer.answer.as_str());
    let mut detail = decisive.to_owned();
    for answer in recipients.iter().filter(|answer| answer.answer != decisive) {
        detail.push_str(&format!("; {}: {}", answer.address, answer.answer));
    }
    let status_code = decisive.get(..3).and_then(|code| code.parse().ok());
    Attempt { status_code, ..Attempt::new(outcome, detail) }.with_recipients(recipients)
}

fn code(error: &smtp::Error) -> Option<u16> {
    error.status().map(u16::from)
}

fn severity(error: &smtp::Error) -> Outcome {
    if error.is_permanent() { Outcome::Permanent } else { Outcome::Retry }
}

/// Returns the health of the server for a rejected message: it works unless it closed the connection.
fn health_of(error: &smtp::Error) -> Health {
    match code(error) {
        Some(code) if code != CLOSING => Health::Works,
        _ => Health::Fails,
    }
}

fn said(response: &Response) -> String {
    sentence(&format!("{} {}", response.code(), response.message().collect::<Vec<_>>().join(" ")))
}

fn credentials(url: &Url) -> std::result::Result<Option<Credentials>, String> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8().map(|text| text.into_owned());
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        (user, Some(password)) if !user.is_empty() => match (decode(user), decode(password)) {
            (Ok(user), Ok(password)) => Ok(Some(Credentials::new(user, password))),
            _ => Err("has a user or password that is not UTF-8 after percent-decoding".to_owned()),
        },
        _ => Err("needs a user and a password, or neither: smtp://user:password@host:port".to_owned()),
    }
}

/// Returns the value of `?tls=` in the URL.
fn wish(url: &Url) -> std::result::Result<Option<String>, String> {
    let mut wish = None;
    for (key, value) in url.query_pairs() {
        if key != "tls" || wish.is_some() {
            return Err(format!(
                "has \"{key}\" in its query; only tls=required, opportunistic or none is allowed, and only once"
            ));
        }
        wish = Some(value.into_owned());
    }
    Ok(wish)
}

fn tls(url: &Url, host: &str, wish: Option<&str>, password: bool) -> std::result::Result<Tls, String> {
    let checked = || {
        TlsParameters::new(host.to_owned())
            .map_err(|error| format!("has a host that TLS cannot use: {error}"))
    };
    let unchecked = || {
        TlsParameters::builder(host.to_owned())
            .dangerous_accept_invalid_certs(true)
            .dangerous_accept_invalid_hostnames(true)
            .build()
            .map_err(|error| format!("has a host that TLS cannot use: {error}"))
    };
    let here =
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match (url.scheme(), wish) {
        ("smtps", None | Some("required")) => Ok(Tls::Wrapper(checked()?)),
        ("smtp", Some("required")) => Ok(Tls::Required(checked()?)),
        ("smtp", None) if password && !here => Ok(Tls::Required(checked()?)),
        ("smtp", None | Some("opportunistic")) => Ok(Tls::Opportunistic(unchecked()?)),
        ("smtp", Some("none")) => Ok(Tls::None),
        ("smtp", Some(other)) => {
            Err(format!("has tls={other}; valid values are required, opportunistic and none"))
        }
        ("smtps", Some(other)) => Err(format!("has tls={other}, but smtps is always encrypted")),
        (scheme, _) => Err(format!("begins with {scheme}:; use smtp://host:port or smtps://host:port")),
    }
}

#[cfg(test)]
mod tests;
