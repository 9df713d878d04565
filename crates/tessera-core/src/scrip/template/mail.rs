//! Templates for mail: subject, body and headers together.

use super::{Compiled, Failure, Mode};
use crate::error::Fault;
use crate::models::TemplateSource;
use crate::models::template::ContentType;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use tera::Context;

/// The most headers of a template.
pub const HEADERS_MAX: usize = 20;
/// The longest name of a header, in bytes.
const HEADER_NAME_MAX: usize = 76;
/// Headers that Tessera sets; also those that begin with one of [`OWNED_PREFIXES`].
const OWNED: [&str; 17] = [
    "from",
    "to",
    "cc",
    "bcc",
    "subject",
    "date",
    "message-id",
    "in-reply-to",
    "references",
    "mime-version",
    "return-path",
    "sender",
    "received",
    "auto-submitted",
    "precedence",
    "delivered-to",
    "dkim-signature",
];
const OWNED_PREFIXES: [&str; 4] = ["content-", "resent-", "x-tessera-", "arc-"];

/// A stored template, compiled.
#[derive(Debug)]
pub struct Template {
    source: TemplateSource,
    subject: Compiled,
    body: Compiled,
    /// The body compiled for webhooks, by the [`Mode`] of their content type; each compiled at first use.
    webhook_bodies: [OnceLock<Result<Compiled, Vec<Fault>>>; Mode::COUNT],
    headers: BTreeMap<String, Compiled>,
}

/// A rendered template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The subject: one line.
    pub subject: String,
    /// Text or HTML, according to the template's content type.
    pub body: String,
    /// Headers by name, each one line.
    pub headers: BTreeMap<String, String>,
}

impl Rendered {
    /// Whether the body is blank, which silences the scrip. RT: the same.
    pub fn is_blank(&self) -> bool {
        self.body.trim().is_empty()
    }
}

impl Template {
    /// Validates and compiles subject, body and headers.
    ///
    /// # Errors
    /// All faults, in the fields `subject_template`, `body_template` and `headers.NAME`.
    pub fn compile(source: &TemplateSource) -> Result<Self, Vec<Fault>> {
        let body_mode = match source.content_type {
            ContentType::Text => Mode::Text,
            ContentType::Html => Mode::Html,
        };
        let mut faults = header_faults(source.headers.keys());
        let subject = compiled("subject_template", &source.subject, Mode::Line, &mut faults);
        let body = compiled("body_template", &source.body, body_mode, &mut faults);
        let mut headers = BTreeMap::new();
        for (name, value) in &source.headers {
            let header = compiled(&format!("headers.{name}"), value, Mode::Line, &mut faults);
            headers.extend(header.map(|header| (name.clone(), header)));
        }
        match (subject, body) {
            (Some(subject), Some(body)) if faults.is_empty() => Ok(Self {
                source: source.clone(),
                subject,
                body,
                webhook_bodies: Default::default(),
                headers,
            }),
            _ => Err(faults),
        }
    }

    /// Renders subject, body and headers. Each is cut if it is too long; `mark` is the sentence at the end of a body that is.
    ///
    /// # Errors
    /// The first failure, with its field.
    pub fn render(&self, variables: &Context, mark: &str) -> Result<Rendered, Failure> {
        let render = |field: &str, text: &Compiled| {
            let rendered = text.render_cut(variables, mark);
            rendered.map_err(|failure| Failure { field: field.to_owned(), ..failure })
        };
        let headers = self.headers.iter().map(|(name, value)| {
            render(&format!("headers.{name}"), value).map(|value| (name.clone(), value))
        });
        Ok(Rendered {
            subject: render("subject_template", &self.subject)?,
            body: render("body_template", &self.body)?,
            headers: headers.collect::<Result<_, _>>()?,
        })
    }

    /// The template that it was compiled from.
    pub fn source(&self) -> &TemplateSource {
        &self.source
    }

    /// The content type of the body.
    pub fn content_type(&self) -> ContentType {
        self.source.content_type
    }

    /// The body.
    pub fn body(&self) -> &Compiled {
        &self.body
    }

    /// Returns the body compiled for a webhook whose values are escaped in this way.
    ///
    /// # Errors
    /// The first error in it.
    pub fn webhook_body(&self, mode: Mode) -> Result<&Compiled, &str> {
        let Some(body) = self.webhook_bodies.get(mode as usize) else { return Ok(&self.body) };
        let compiled = body.get_or_init(|| Compiled::compile(&self.source.body, mode));
        compiled.as_ref().map_err(|faults| faults.first().map_or("", |fault| fault.message.as_str()))
    }

    /// Returns the names of the custom fields that it uses.
    pub fn custom_fields(&self) -> BTreeSet<&str> {
        self.texts().flat_map(Compiled::custom_fields).map(String::as_str).collect()
    }

    /// See [`Compiled::uses_messages`].
    pub fn uses_messages(&self) -> bool {
        self.texts().any(Compiled::uses_messages)
    }

    /// See [`Compiled::is_volatile`].
    pub fn is_volatile(&self, create: bool) -> bool {
        self.texts().any(|text| text.is_volatile(create))
    }

    fn texts(&self) -> impl Iterator<Item = &Compiled> {
        [&self.subject, &self.body].into_iter().chain(self.headers.values())
    }
}

fn compiled(field: &str, source: &str, mode: Mode, faults: &mut Vec<Fault>) -> Option<Compiled> {
    Compiled::compile(source, mode)
        .map_err(|found| {
            faults.extend(found.into_iter().map(|fault| Fault { field: field.to_owned(), ..fault }))
        })
        .ok()
}

fn header_faults<'n>(names: impl ExactSizeIterator<Item = &'n String>) -> Vec<Fault> {
    if names.len() > HEADERS_MAX {
        return vec![Fault::new(
            "headers",
            format!("has {} headers; at most {HEADERS_MAX} are allowed", names.len()),
        )];
    }
    let mut seen = BTreeSet::new();
    let mut reason = |name: &str| {
        let lower = name.to_ascii_lowercase();
        let is_field_name = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        if name.is_empty() || name.len() > HEADER_NAME_MAX || !is_field_name {
            Some("is not a valid header name; use letters, digits and hyphens")
        } else if OWNED.contains(&lower.as_str())
            || OWNED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
        {
            Some("is a header that Tessera sets; remove it")
        } else if !seen.insert(lower) {
            Some("is listed twice, with different capitalization; keep one")
        } else {
            None
        }
    };
    names
        .filter_map(|name| reason(name).map(|reason| Fault::new(format!("headers.{name}"), reason)))
        .collect()
}
