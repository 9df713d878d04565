//! Templates as they are stored, before they are compiled.

use super::id::{QueueId, TemplateId, TemplateVersionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The content type of a template's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ContentType {
    /// Plain text.
    #[default]
    #[serde(alias = "text/plain")]
    Text,
    /// HTML; the text part is derived from it. Values are escaped.
    #[serde(alias = "text/html")]
    Html,
}

/// The source of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateSource {
    /// The template.
    pub id: TemplateId,
    /// Its current version.
    pub version_id: TemplateVersionId,
    /// The number of that version, from 1.
    pub version: i32,
    /// Its name, unique within its queue.
    pub name: String,
    /// The queue that it belongs to; `None` for a global template.
    pub queue: Option<QueueId>,
    /// The subject line.
    pub subject: String,
    /// The body.
    pub body: String,
    /// The content type of the body.
    pub content_type: ContentType,
    /// Additional headers by name; each value is a template.
    pub headers: BTreeMap<String, String>,
    /// True if it is disabled: it is treated as if it did not exist.
    pub disabled: bool,
}
