//! Custom fields: what a desk writes down about a ticket beyond what every ticket has.

use super::id::CustomFieldId;
use serde::{Deserialize, Serialize};

/// How a field is filled in. RT: `RT::CustomField` types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum FieldType {
    /// Any text.
    Freeform,
    /// One of the listed values.
    SelectSingle,
    /// Some of the listed values.
    SelectMulti,
}

/// A custom field.
#[derive(Debug, Clone)]
pub struct CustomField {
    /// Its id.
    pub id: CustomFieldId,
    /// Unique, compared without case.
    pub name: String,
    /// How it is filled in.
    pub field_type: FieldType,
    /// What may be chosen, for the two Select types.
    pub values: Vec<String>,
    /// How many values a ticket may have; 0 = any number.
    pub max_values: u32,
    /// What a Freeform value must match, compiled when the field is saved.
    pub pattern: Option<regex::Regex>,
    /// Disabled fields keep their values and are shown nowhere.
    pub disabled: bool,
}
