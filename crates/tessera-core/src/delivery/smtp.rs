//! Mail by SMTP: one session per attempt, with a separate answer for each recipient.

mod server;
mod session;

use super::email::{Built, Receiver, build};
use super::mask::Mask;
use super::retry::TROUBLE_WAIT;
use super::{Attempt, Health, Leased, Outcome, RecipientAnswer, sentence};
use crate::error::{Error, Result};
use crate::models::delivery::Payload;
use server::Server;
use session::{CLOSING, Expected, Fault, Session};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;

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
/// The extension for addresses that are not ASCII before the "@" (RFC 6531).
const SMTPUTF8: &str = "SMTPUTF8";

/// A transport through one mail server. A process has only one, which keeps connections open between emails.
pub struct SmtpTransport {
    server: Server,
    mask: Mask,
    hello: String,
    dialogue: Duration,
    idle: Mutex<Vec<(Instant, Session)>>,
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
        let server = Server::parse(url).map_err(|message| Error::invalid_field("mail.smtp_url", message))?;
        let password = server.login.as_ref().map(|login| ("mail.smtp_url", login.password.as_str()));
        let mask = Mask::new(password);
        let hello = match hello.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => format!("[{ip}]"),
            Ok(IpAddr::V6(ip)) => format!("[IPv6:{ip}]"),
            Err(_) if hello.is_empty() || hello.contains(|c: char| !c.is_ascii_graphic()) => {
                "[127.0.0.1]".to_owned()
            }
            Err(_) => hello.to_owned(),
        };
        Ok(Self { server, mask, hello, dialogue: DIALOGUE_TIMEOUT, idle: Mutex::default() })
    }

    /// Makes one attempt for the recipients that have no final answer yet. Every failure becomes the outcome of the attempt.
    pub async fn send(&self, leased: &Leased) -> Attempt {
        let started = Instant::now();
        let Payload::Email(email) = &leased.delivery.payload else {
            return Attempt::new(Outcome::Permanent, "this delivery is not an email");
        };
        let mut attempt = match build(leased.delivery.id, leased.delivery.created_at, email) {
            Ok(built) => {
                let (open, settled) = divide(&built.receivers, &leased.answered);
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
        let session = self.connect().await.map_err(|fault| self.mask.text(&self.words(&fault)))?;
        let encrypted = if session.is_encrypted { "encrypted" } else { "not encrypted" };
        let user = match self.server.login {
            Some(_) => "the password is accepted",
            None => "no password is configured",
        };
        session.quit().await;
        Ok(format!("{}:{} responds, {encrypted}, {user}", self.server.host, self.server.port))
    }

    /// Runs a whole session. Returns the answer for each recipient and the health of the server, or the attempt if it ended before
    /// any recipient had an answer.
    async fn converse(
        &self,
        built: &Built,
        receivers: &[&Receiver],
    ) -> std::result::Result<(Vec<RecipientAnswer>, Health), Attempt> {
        let refused = |receiver: &&Receiver| {
            let answer = sentence(receiver.mailbox.as_ref().err()?);
            Some(RecipientAnswer { address: receiver.address.clone(), outcome: Outcome::Permanent, answer })
        };
        // Nobody is left to ask.
        if let Some(answers) = receivers.iter().map(refused).collect() {
            return Ok((answers, Health::Unknown));
        }
        let silent = |_| {
            Attempt::new(
                Outcome::Retry,
                format!("the mail server {} did not answer in time", self.server.host),
            )
            .with_health(Health::Fails)
            .with_wait(TROUBLE_WAIT)
        };
        let (mut session, mut answers) =
            timeout(self.dialogue, self.introduce(built, receivers)).await.map_err(silent)??;
        if answers.iter().all(|answer| answer.outcome != Outcome::Delivered) {
            if let Ok(Ok(_)) = timeout(self.dialogue, session.command("RSET", Expected::Done)).await {
                self.keep(session);
            }
            return Ok((answers, Health::Works));
        }
        let (outcome, answer, health) = match timeout(MESSAGE_TIMEOUT, session.message(&built.message)).await
        {
            Ok(Ok(reply)) => {
                self.keep(session);
                (Outcome::Delivered, sentence(&reply.words()), Health::Works)
            }
            Ok(Err(fault)) => (severity(&fault), self.words(&fault), health_of(&fault)),
            Err(elapsed) => return Err(silent(elapsed)),
        };
        // The reply to the message applies to every accepted recipient.
        for taken in answers.iter_mut().filter(|answer| answer.outcome == Outcome::Delivered) {
            (taken.outcome, taken.answer) = (outcome, answer.clone());
        }
        Ok((answers, health))
    }

    /// Sends MAIL, and RCPT for each recipient. A recipient whose address the server cannot take is refused
    /// alone.
    async fn introduce(
        &self,
        built: &Built,
        receivers: &[&Receiver],
    ) -> std::result::Result<(Session, Vec<RecipientAnswer>), Attempt> {
        let mut session = self.begin(built, receivers).await?;
        let mut answers = Vec::with_capacity(receivers.len());
        for receiver in receivers {
            let asked = match &receiver.mailbox {
                Err(fault) => Err(fault.clone()),
                Ok(mailbox) if !mailbox.is_ascii() && !session.offers(SMTPUTF8) => {
                    Err(format!("{FOREIGN_LOCAL_PART} (SMTPUTF8)"))
                }
                Ok(mailbox) => Ok(session.command(&format!("RCPT TO:<{mailbox}>"), Expected::Done).await),
            };
            let (outcome, answer) = match asked {
                Ok(Ok(reply)) => (Outcome::Delivered, sentence(&reply.words())),
                Ok(Err(fault)) if fault.code().is_some_and(|code| code != CLOSING) => {
                    (severity(&fault), self.words(&fault))
                }
                Ok(Err(fault)) => return Err(self.broken(&fault)),
                Err(refusal) => (Outcome::Permanent, sentence(&refusal)),
            };
            answers.push(RecipientAnswer { address: receiver.address.clone(), outcome, answer });
        }
        Ok((session, answers))
    }

    /// Returns a connection on which the server has accepted MAIL.
    async fn begin(&self, built: &Built, receivers: &[&Receiver]) -> std::result::Result<Session, Attempt> {
        while let Some(mut session) = self.take_idle() {
            let command = mail(&session, built, receivers)?;
            match session.command(&command, Expected::Done).await {
                Ok(_) => return Ok(session),
                Err(fault) if fault.code().is_some_and(|code| code != CLOSING) => {
                    return Err(self.refused(&fault));
                }
                // The server closed this connection while it was idle; that says nothing about this email.
                Err(_) => {}
            }
        }
        let mut session = self.connect().await.map_err(|fault| self.broken(&fault))?;
        let command = mail(&session, built, receivers)?;
        session.command(&command, Expected::Done).await.map_err(|fault| self.refused(&fault))?;
        Ok(session)
    }

    async fn connect(&self) -> std::result::Result<Session, Fault> {
        Session::open(&self.server, &self.hello).await
    }

    fn take_idle(&self) -> Option<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, _)| since.elapsed() < IDLE_FOR);
        idle.pop().map(|(_, session)| session)
    }

    fn keep(&self, session: Session) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX && session.is_usable {
            idle.push((Instant::now(), session));
        }
    }

    /// Returns the attempt for a rejected MAIL, which is permanent for a 5xx about the email itself.
    fn refused(&self, fault: &Fault) -> Attempt {
        let is_of_mail = fault.is_permanent() && fault.code() != Some(NOT_AUTHENTICATED);
        let (outcome, health) =
            if is_of_mail { (Outcome::Permanent, Health::Works) } else { (Outcome::Retry, Health::Fails) };
        Attempt { outcome, health, ..self.broken(fault) }
    }

    /// Returns the attempt for an error that is not about this email. It is retried even after a 5xx (a greeting of 554, a wrong
    /// password), because an operator can fix the cause.
    fn broken(&self, fault: &Fault) -> Attempt {
        let attempt = Attempt::new(Outcome::Retry, self.words(fault)).with_health(Health::Fails);
        match fault.code() {
            Some(code) => attempt.with_status(code),
            None => attempt,
        }
    }

    fn words(&self, fault: &Fault) -> String {
        match fault {
            Fault::Refused(reply) => sentence(&reply.words()),
            Fault::Broken(cause) => {
                sentence(&format!("mail server {}:{}: {cause}", self.server.host, self.server.port))
            }
        }
    }
}

/// Why a server without the extension cannot be given an address or a message.
const FOREIGN_LOCAL_PART: &str =
    "the address is not ASCII before the \"@\", and the mail server does not support such addresses";

/// Returns the MAIL command for this server.
fn mail(session: &Session, built: &Built, receivers: &[&Receiver]) -> std::result::Result<String, Attempt> {
    let is_offered = session.offers(SMTPUTF8);
    if !(is_offered || built.sender.is_ascii()) {
        let detail = format!("{FOREIGN_LOCAL_PART} (SMTPUTF8): the sender {}", built.sender);
        return Err(Attempt::new(Outcome::Permanent, detail));
    }
    let is_foreign =
        |receiver: &&Receiver| receiver.mailbox.as_ref().is_ok_and(|mailbox| !mailbox.is_ascii());
    let is_needed = !built.sender.is_ascii() || receivers.iter().any(is_foreign);
    let parameter = if is_offered && is_needed { " SMTPUTF8" } else { "" };
    Ok(format!("MAIL FROM:<{}>{parameter}", built.sender))
}

/// Returns the recipients to try, and the final answers for the others.
pub(super) fn divide<'r>(
    receivers: &'r [Receiver],
    answered: &[RecipientAnswer],
) -> (Vec<&'r Receiver>, Vec<RecipientAnswer>) {
    let settled: Vec<RecipientAnswer> =
        answered.iter().filter(|answer| answer.outcome != Outcome::Retry).cloned().collect();
    let is_open = |receiver: &&Receiver| settled.iter().all(|answer| answer.address != receiver.address);
    (receivers.iter().filter(is_open).collect(), settled)
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

fn severity(fault: &Fault) -> Outcome {
    if fault.is_permanent() { Outcome::Permanent } else { Outcome::Retry }
}

/// Returns the health of the server for a rejected message: it works unless it closed the connection, or does not speak SMTP.
fn health_of(fault: &Fault) -> Health {
    match fault.code() {
        Some(code) if code != CLOSING && matches!(code / 100, 4 | 5) => Health::Works,
        _ => Health::Fails,
    }
}

#[cfg(test)]
mod tests;
