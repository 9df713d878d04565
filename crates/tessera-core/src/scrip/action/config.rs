//! The configurations of actions, as they are written down; their JSON Schemas are published.

use crate::models::{Role, StatusClass};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The configuration of `SendEmail`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendEmailConfig {
    /// Roles (`requestor`, `owner`, `cc`, `admin_cc`, `queue_cc`, `queue_admin_cc`, `creator`), addresses, or templates
    /// that render to addresses separated by commas.
    #[serde(default)]
    pub to: Vec<String>,
    /// The same, in Cc.
    #[serde(default)]
    pub cc: Vec<String>,
    /// The same, in Bcc.
    #[serde(default)]
    pub bcc: Vec<String>,
    /// Whether the person who made the change gets the mail too. RT: `$NotifyActor`.
    #[serde(default)]
    pub notify_actor: bool,
    /// From the queue's comment address, and recorded as `CommentEmailRecord`. RT: `NotifyAsComment`.
    #[serde(default)]
    pub as_comment: bool,
}

/// The configuration of `Webhook`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// `https://host[:port]/path?query`; scheme, host and port are literal, path and query may be templates.
    pub url: String,
    /// `POST` unless given: one of POST, PUT, PATCH, DELETE, GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Values are templates, or `{"secret": name}`.
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderConfig>,
    /// A template. JSON (values are escaped as JSON) unless a Content-Type header says otherwise. Without it, the
    /// scrip's template; without that, a document of the ticket and the transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The name of the secret (`whsec_…`) that signs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// The value of a webhook's header, as configured.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum HeaderConfig {
    /// A template.
    Text(String),
    /// The value of a secret.
    Secret(SecretName),
}

/// Names a secret.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretName {
    /// Its name.
    pub secret: String,
}

/// The configuration of `SetCustomField`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetCustomFieldConfig {
    /// The field's name.
    pub field: String,
    /// A template, or several for a field with several values; none with `clear`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Values>,
    /// What to do with what is there.
    #[serde(default)]
    pub mode: Mode,
}

/// One value or several.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Values {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// What an action does with the values that a field has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Replaces them.
    #[default]
    Set,
    /// Adds to them.
    Add,
    /// Removes some.
    Remove,
    /// Removes all.
    Clear,
}

/// The configuration of `SetStatus`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetStatusConfig {
    /// A status; or `initial`, `active`, `inactive`: the first status of that class that is allowed.
    pub status: String,
    /// Only when the status before the request was one of these statuses or classes, and the request does not set the
    /// status itself; none = always. RT: `AutoOpenInactive` is `active` from `inactive`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
}

/// The configuration of the actions that set one column.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetConfig {
    /// A template.
    pub value: String,
}

/// The configuration of `AddComment` and `AddCorrespondence`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageConfig {
    /// A template; without it the body of the scrip's template is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// The configuration of `AddWatcher` and `RemoveWatcher`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WatcherConfig {
    /// The role.
    pub role: Role,
    /// A template that renders to a username or an address.
    pub who: String,
}

impl SetStatusConfig {
    /// The class named by `status`, if it names one.
    pub fn class(&self) -> Option<StatusClass> {
        [StatusClass::Initial, StatusClass::Active, StatusClass::Inactive]
            .into_iter()
            .find(|class| class.as_str().eq_ignore_ascii_case(&self.status))
    }
}
