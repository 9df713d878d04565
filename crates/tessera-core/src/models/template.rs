//! Templates as they are stored: words with places for values.

use super::id::{QueueId, TemplateId, TemplateVersionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a template's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ContentType {
    /// Plain text.
    #[default]
    #[serde(alias = "text/plain")]
    Text,
    /// HTML; a text part is made from it. Values are escaped.
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
    /// Unique in its queue.
    pub name: String,
    /// The queue it belongs to; `None` = global.
    pub queue: Option<QueueId>,
    /// The subject line.
    pub subject: String,
    /// The body.
    pub body: String,
    /// What the body is.
    pub content_type: ContentType,
    /// More headers, each a template.
    pub headers: BTreeMap<String, String>,
    /// Disabled templates are as if they were not there.
    pub disabled: bool,
}
