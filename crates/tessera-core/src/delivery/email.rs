//! Emails: the bytes of an email, which depend only on its parts, and a transport that writes emails to a folder.

mod head;

use super::{Attempt, Health, Leased, Outcome};
use crate::models::delivery::{Email, Payload};
use crate::models::id::DeliveryId;
use crate::models::text::is_address;
use head::Mailbox;
use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Body, MultiPart, SinglePart};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

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
/// Returns true if [`build`] sets this header, so that templates cannot set it.
pub fn is_reserved_header(name: &str) -> bool {
    RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
}

/// An email that is ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// The message, with CRLF line endings; all ASCII unless the address in its From is not.
    pub message: Vec<u8>,
    /// The return path: the address in From, with its domain in ASCII.
    pub sender: String,
    /// The recipients in To, Cc and Bcc without duplicates, in that order.
    pub receivers: Vec<Receiver>,
}

/// A recipient of the envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct Receiver {
    /// The address as it is stored, by which its answers are known.
    pub address: String,
    /// The address with its domain in ASCII, or a sentence that says why no mail can be sent to it.
    pub mailbox: Result<String, String>,
}

/// Builds the email. The result depends only on stored data, so every attempt sends the same bytes: `Date` is `created_at`, the
/// MIME boundary is derived from `id`, and `Message-ID` is one of the headers.
///
/// Bodies are always encoded and headers typed or encoded, so no text in them can end a line, a header or the message. Bcc is
/// in the envelope only. A recipient whose address is invalid is missing in the header; see [`Receiver::mailbox`]. The error is
/// a sentence; a retry cannot help.
///
/// RT: lib/RT/Interface/Email.pm, where each sending has a new Message-ID; here it stays the same.
pub fn build(id: DeliveryId, created_at: OffsetDateTime, email: &Email) -> Result<Built, String> {
    let (name, address) = named(&email.from);
    let sender = mailbox(address).map_err(|fault| format!("From: {fault}"))?;
    let receivers = receivers(email)?;
    let date = created_at.format(&Rfc2822).map_err(|error| format!("the date cannot be written: {error}"))?;
    let mut message = head::text("Date", &date);
    message.push_str(&head::mailbox("From", &Mailbox { name: &name, address: &sender }));
    for (field, addresses) in [("To", &email.to), ("Cc", &email.cc)] {
        let known = addresses.iter().filter_map(|address| mailbox(address).ok()).collect::<Vec<_>>();
        let list: Vec<_> = known.iter().map(|address| Mailbox { name: "", address }).collect();
        if !list.is_empty() {
            message.push_str(&head::mailboxes(field, &list));
        }
    }
    message.push_str(&head::text("Subject", &email.subject));
    for (name, value) in email.headers.iter().filter(|(name, _)| !is_reserved_header(name)) {
        let is_name = !name.is_empty() && name.bytes().all(|c| c.is_ascii_graphic() && c != b':');
        if !is_name {
            return Err(format!("\"{name}\" is not a valid header name"));
        }
        message.push_str(&head::text(name, value));
    }
    message.push_str("MIME-Version: 1.0\r\n");
    let text = part(ContentType::TEXT_PLAIN, &email.text);
    let body = match &email.html {
        None => text.formatted(),
        // "=_" cannot occur in either encoding of the parts, so no text can contain the boundary.
        Some(html) => MultiPart::alternative()
            .boundary(format!("=_{}", id.0.simple()))
            .singlepart(text)
            .singlepart(part(ContentType::TEXT_HTML, html))
            .formatted(),
    };
    Ok(Built { message: [message.into_bytes(), body].concat(), sender, receivers })
}

fn receivers(email: &Email) -> Result<Vec<Receiver>, String> {
    let mut receivers: Vec<Receiver> = Vec::new();
    for address in email.to.iter().chain(&email.cc).chain(&email.bcc) {
        let mailbox = mailbox(address);
        let is_known = receivers
            .iter()
            .any(|known| known.address == *address || (mailbox.is_ok() && known.mailbox == mailbox));
        if !is_known {
            receivers.push(Receiver { address: address.clone(), mailbox });
        }
    }
    if receivers.is_empty() { Err("the mail has no recipient".to_owned()) } else { Ok(receivers) }
}

/// Returns an address with its domain in ASCII (RFC 5891), which every mail server accepts.
fn mailbox(address: &str) -> Result<String, String> {
    let fault = || format!("\"{}\" is not a mail address", head::one_line(address));
    let (local, domain) = address.rsplit_once('@').filter(|_| is_address(address)).ok_or_else(fault)?;
    if domain.is_ascii() {
        return Ok(address.to_owned());
    }
    let domain = idna::domain_to_ascii(domain).map_err(|_| fault())?;
    Ok(format!("{local}@{domain}"))
}

/// Splits `"Name" <address>`. A text without angle brackets is an address.
fn named(from: &str) -> (String, &str) {
    let Some((name, address)) = from.trim().strip_suffix('>').and_then(|from| from.rsplit_once('<')) else {
        return (String::new(), from.trim());
    };
    let name = name.trim();
    let unquoted = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
    let Some(quoted) = unquoted else { return (name.to_owned(), address) };
    let mut name = String::new();
    let mut characters = quoted.chars();
    while let Some(c) = characters.next() {
        name.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    (name, address)
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
