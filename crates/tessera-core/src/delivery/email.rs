//! Emails: the bytes of an email, which depend only on its parts, and a transport that writes emails to a folder.

use super::{Attempt, Health, Leased, Outcome};
use crate::models::delivery::{Email, Payload};
use crate::models::id::DeliveryId;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lettre::Address;
use lettre::address::Envelope;
use lettre::message::header::{self, ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, Message, MessageBuilder, MultiPart, SinglePart};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};
use time::OffsetDateTime;

/// Headers that [`build`] sets. They are ignored in templates, so that a template cannot add recipients or change the encoding.
const RESERVED: [&str; 14] = [
    "bcc",
    "cc",
    "content-disposition",
    "content-id",
    "content-transfer-encoding",
    "content-type",
    "date",
    "from",
    "mime-version",
    "resent-bcc",
    "return-path",
    "sender",
    "subject",
    "to",
];
/// The maximum length of a word in an unencoded header, in bytes; a longer one might not fold into lines of 998 bytes (RFC 5322).
const WORD_MAX: usize = 200;
/// The bytes of text in one encoded word of a header: 60 bytes of base64, 72 with the delimiters, below the 75 of RFC 2047.
const ENCODED_WORD_BYTES: usize = 45;

/// Returns true if [`build`] sets this header, so that templates cannot set it.
pub fn is_reserved_header(name: &str) -> bool {
    RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
}

/// An email that is ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// The message, with CRLF line endings; all ASCII except for addresses in its header that are not.
    pub message: Vec<u8>,
    /// The recipients in To, Cc and Bcc without duplicates, in that order; the return path is the address in From.
    pub envelope: Envelope,
}

/// Builds the email. The result depends only on stored data, so every attempt sends the same bytes: `Date` is `created_at`, the
/// MIME boundary is derived from `id`, and `Message-ID` is one of the headers.
///
/// Bodies are always encoded and headers typed or encoded, so no text in them can end a line, a header or the message. Bcc is
/// in the envelope only. The error is a sentence; a retry cannot help.
///
/// RT: lib/RT/Interface/Email.pm, where each sending has a new Message-ID; here it stays the same.
pub fn build(id: DeliveryId, created_at: OffsetDateTime, email: &Email) -> Result<Built, String> {
    let from: Mailbox = email.from.parse().map_err(|error| format!("From is not a mail address: {error}"))?;
    let envelope = envelope(&from.email, email)?;
    let mut message = Message::builder()
        .envelope(envelope.clone())
        .date(SystemTime::from(created_at))
        .mailbox(header::From::from(vec![from].into_iter().collect::<lettre::message::Mailboxes>()));
    for address in &email.to {
        message = message.to(mailbox(address)?);
    }
    for address in &email.cc {
        message = message.cc(mailbox(address)?);
    }
    message = with_header(message, "Subject", &email.subject)?;
    for (name, value) in email.headers.iter().filter(|(name, _)| !is_reserved_header(name)) {
        message = with_header(message, name, value)?;
    }
    let text = part(ContentType::TEXT_PLAIN, &email.text);
    let message = match &email.html {
        None => message.singlepart(text),
        // "=_" cannot occur in either encoding of the parts, so no text can contain the boundary.
        Some(html) => message.multipart(
            MultiPart::alternative()
                .boundary(format!("=_{}", id.0.simple()))
                .singlepart(text)
                .singlepart(part(ContentType::TEXT_HTML, html)),
        ),
    };
    let message = message.map_err(|error| format!("the mail cannot be built: {error}"))?;
    Ok(Built { message: message.formatted(), envelope })
}

fn envelope(from: &Address, email: &Email) -> Result<Envelope, String> {
    let mut to: Vec<Address> = Vec::new();
    for address in email.to.iter().chain(&email.cc).chain(&email.bcc) {
        let address = mailbox(address)?.email;
        if !to.contains(&address) {
            to.push(address);
        }
    }
    Envelope::new(Some(from.clone()), to).map_err(|_| "the mail has no recipient".to_owned())
}

fn mailbox(address: &str) -> Result<Mailbox, String> {
    let address: Address =
        address.parse().map_err(|error| format!("\"{address}\" is not a mail address: {error}"))?;
    Ok(Mailbox::new(None, address))
}

fn with_header(message: MessageBuilder, name: &str, value: &str) -> Result<MessageBuilder, String> {
    let printable = !name.is_empty() && name.bytes().all(|c| c.is_ascii_graphic() && c != b':');
    let key = HeaderName::new_from_ascii(name.to_owned()).ok().filter(|_| printable);
    let key = key.ok_or_else(|| format!("\"{name}\" is not a valid header name"))?;
    let line = one_line(value);
    let value = if needs_no_encoding(&line) {
        HeaderValue::new(key, line)
    } else {
        let encoded = encoded_words(&line);
        HeaderValue::dangerous_new_pre_encoded(key, line, encoded)
    };
    Ok(message.raw_header(value))
}

/// Replaces control characters, line breaks and repeated spaces by single spaces, as folding would.
fn one_line(value: &str) -> String {
    value
        .split(|c: char| c.is_control() || c == ' ')
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns true if a line needs no encoding: printable ASCII, nothing that looks like an encoded word, and words short enough
/// for folding.
fn needs_no_encoding(line: &str) -> bool {
    line.bytes().all(|c| c == b' ' || c.is_ascii_graphic())
        && !line.contains("=?")
        && line.split(' ').all(|word| word.len() <= WORD_MAX)
}

/// Encodes a line as encoded words (RFC 2047), one per line of the email.
fn encoded_words(line: &str) -> String {
    let mut words = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let end = (1..=ENCODED_WORD_BYTES.min(rest.len())).rev().find(|&at| rest.is_char_boundary(at));
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(format!("=?utf-8?b?{}?=", STANDARD.encode(word)));
        rest = after;
    }
    words.join("\r\n ")
}

fn part(content_type: ContentType, text: &str) -> SinglePart {
    let text = text.replace("\r\n", "\n").replace(['\r', '\n'], "\r\n");
    // Quoted-printable keeps ASCII readable; with more than a sixth of other bytes, base64 is shorter.
    let foreign = text.bytes().filter(|byte| !byte.is_ascii()).count();
    let encoding = if foreign * 6 > text.len() {
        ContentTransferEncoding::Base64
    } else {
        ContentTransferEncoding::QuotedPrintable
    };
    // Both encodings are always possible; otherwise lettre would choose one.
    let body = Body::new_with_encoding(text.clone(), encoding).unwrap_or_else(|_| Body::new(text));
    SinglePart::builder().content_type(content_type).body(body)
}

/// A transport for a setup without a mail server, which writes emails to `<delivery id>.eml` in a folder.
#[derive(Debug, Clone)]
pub struct FileTransport {
    folder: PathBuf,
}

impl FileTransport {
    /// Creates a transport that writes to `folder`, which is created if it does not exist.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Makes one attempt. The file is written completely or not at all, and is on disk when this returns.
    pub async fn send(&self, leased: &Leased) -> Attempt {
        let started = Instant::now();
        let Payload::Email(email) = &leased.delivery.payload else {
            return Attempt::new(Outcome::Permanent, "this delivery is not an email");
        };
        let mut attempt = match build(leased.delivery.id, leased.delivery.created_at, email) {
            Err(fault) => Attempt::new(Outcome::Permanent, fault),
            Ok(built) => {
                let folder = self.folder.clone();
                let name = leased.delivery.id.to_string();
                // The token distinguishes two workers that lease the delivery one after the other.
                let temporary = format!(".{name}.{}.tmp", leased.token);
                let path = folder.join(format!("{name}.eml"));
                let shown = path.display().to_string();
                let written =
                    tokio::task::spawn_blocking(move || put(&folder, &temporary, &path, &built.message))
                        .await;
                match written {
                    Ok(Ok(())) => Attempt::new(Outcome::Delivered, format!("written to {shown}")),
                    Ok(Err(error)) => {
                        Attempt::new(Outcome::Retry, format!("{shown} cannot be written: {error}"))
                            .with_health(Health::Fails)
                    }
                    Err(_) => Attempt::new(
                        Outcome::Retry,
                        format!("{shown} was not written: the server is stopping"),
                    ),
                }
            }
        };
        attempt.duration = started.elapsed();
        attempt
    }
}

fn put(folder: &Path, temporary: &str, path: &Path, message: &[u8]) -> std::io::Result<()> {
    // Other users of the machine must not read the emails.
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let temporary = folder.join(temporary);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(message)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
