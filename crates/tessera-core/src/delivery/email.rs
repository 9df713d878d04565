//! Mails: the bytes of one, made from its parts alone; and the folder they go to when there is no mail server.

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

/// Headers that [`build`] makes itself. A template that sets one of them is overruled, so no address and no encoding can be
/// slipped in.
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
/// The longest word of a header that is written as it is; a longer one could not be folded into lines of 998 bytes (RFC 5322).
const WORD_MAX: usize = 200;
/// How many bytes of text one encoded word of a header holds: 60 of base64, 72 with its frame, under the 75 of RFC 2047.
const ENCODED_WORD_BYTES: usize = 45;

/// Whether a header is made by [`build`] and cannot be set by a template.
pub fn is_reserved_header(name: &str) -> bool {
    RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
}

/// A mail ready to be sent: its bytes, and who gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// The message, with CRLF line ends; all ASCII but for addresses in its head that are not.
    pub message: Vec<u8>,
    /// To, Cc and Bcc, each once, in that order; the return path is the address in From.
    pub envelope: Envelope,
}

/// Makes the mail. A pure function of what is stored, so every attempt sends the same bytes: `Date` is `created_at`, the MIME
/// boundary follows from `id`, `Message-ID` is one of the headers.
///
/// Bodies are always encoded, headers typed or encoded, so no text in them can end a line, a header or the message; Bcc stands
/// in the envelope only. The error is a sentence, and trying again cannot help.
///
/// RT: lib/RT/Interface/Email.pm, whose Message-ID changes with every sending; here it does not.
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
        // "=_" occurs in neither encoding of the parts, so no text can hold the boundary.
        Some(html) => message.multipart(
            MultiPart::alternative()
                .boundary(format!("=_{}", id.0.simple()))
                .singlepart(text)
                .singlepart(part(ContentType::TEXT_HTML, html)),
        ),
    };
    let message = message.map_err(|error| format!("the mail cannot be put together: {error}"))?;
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
    let key = key.ok_or_else(|| format!("\"{name}\" cannot be the name of a header"))?;
    let line = one_line(value);
    let value = if reads_as_it_stands(&line) {
        HeaderValue::new(key, line)
    } else {
        let encoded = encoded_words(&line);
        HeaderValue::dangerous_new_pre_encoded(key, line, encoded)
    };
    Ok(message.raw_header(value))
}

/// A value without line breaks and other control characters, and with single spaces, as folding would leave it anyway.
fn one_line(value: &str) -> String {
    value
        .split(|c: char| c.is_control() || c == ' ')
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Whether a line can be written as it is: printable ASCII, nothing that reads as encoded, words that can be folded between.
fn reads_as_it_stands(line: &str) -> bool {
    line.bytes().all(|c| c == b' ' || c.is_ascii_graphic())
        && !line.contains("=?")
        && line.split(' ').all(|word| word.len() <= WORD_MAX)
}

/// A line as encoded words (RFC 2047), one to a line of the mail.
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
    // Mostly ASCII stays readable; beyond a sixth, base64 is the shorter one.
    let foreign = text.bytes().filter(|byte| !byte.is_ascii()).count();
    let encoding = if foreign * 6 > text.len() {
        ContentTransferEncoding::Base64
    } else {
        ContentTransferEncoding::QuotedPrintable
    };
    // Neither encoding is ever refused; were it, the text would be encoded by lettre's own choice.
    let body = Body::new_with_encoding(text.clone(), encoding).unwrap_or_else(|_| Body::new(text));
    SinglePart::builder().content_type(content_type).body(body)
}

/// Where mails go when no mail server is configured: `<delivery id>.eml` in a folder.
#[derive(Debug, Clone)]
pub struct FileTransport {
    folder: PathBuf,
}

impl FileTransport {
    /// A transport into `folder`, which is made when it is missing.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Makes one attempt. The file is there whole or not at all, and on the disk before this returns.
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
                // The token keeps apart two workers that hold the delivery one after the other.
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
    // What people write to a desk is for nobody else on the machine.
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let temporary = folder.join(temporary);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(message)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
#[path = "email_tests.rs"]
mod tests;
