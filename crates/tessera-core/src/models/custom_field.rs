//! Custom fields: additional data of tickets, and which values are valid.

use super::id::CustomFieldId;
use super::text::{VALUE_MAX, caseless, fault, is_empty, line_fault, list, name_fault, quote, typed};
use crate::error::Fault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The maximum number of choices of a Select field.
pub const CHOICES_MAX: usize = 1_000;
/// The maximum number of values of one field on a ticket, also for a field without a limit of its own.
pub const COUNT_MAX: u32 = 1_000;
/// The maximum length of a pattern, in bytes.
pub const PATTERN_MAX: usize = 1_000;
/// The maximum size of a compiled pattern, in bytes.
pub const PATTERN_SIZE_MAX: usize = 1 << 20;

/// The type of a custom field. RT: the types of `RT::CustomField`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum FieldType {
    /// Any text.
    Freeform,
    /// One of the listed values.
    SelectSingle,
    /// Any number of the listed values.
    SelectMulti,
}

/// The definition of a custom field, before validation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Unique, compared without case.
    pub name: String,
    /// The type.
    pub field_type: FieldType,
    /// The choices of the two Select types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// The maximum number of values on a ticket; 0 = any number. Default: 1, or 0 for SelectMulti.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_values: Option<u32>,
    /// A regular expression that a whole Freeform value must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}

/// A custom field.
#[derive(Debug, Clone)]
pub struct CustomField {
    /// Its id.
    pub id: CustomFieldId,
    /// Unique, compared without case.
    pub name: String,
    /// The type.
    pub field_type: FieldType,
    /// The choices of the two Select types.
    pub values: Vec<String>,
    /// The maximum number of values on a ticket; 0 = any number, up to [`COUNT_MAX`].
    pub max_values: u32,
    /// A regular expression that a Freeform value must match.
    pub pattern: Option<Pattern>,
    /// True if it is disabled: it keeps its values but is not shown.
    pub disabled: bool,
}

impl CustomField {
    /// Validates a definition and creates an enabled field from it.
    ///
    /// # Errors
    /// Every fault in the definition, with paths such as `values[1]`.
    pub fn define(id: CustomFieldId, definition: Definition) -> Result<Self, Vec<Fault>> {
        let Definition { name, field_type, values, max_values, pattern } = definition;
        let mut faults = Vec::new();
        let name_fault = name_fault(&name).or_else(|| {
            // Queries refer to a field as CF.{Severity}.
            name.contains(['{', '}'])
                .then(|| "contains a brace, which would end the field's name in queries".to_owned())
        });
        faults.extend(name_fault.map(|message| Fault::new("name", message)));
        faults.extend(choice_faults(field_type, &values));
        faults.extend(max_fault(field_type, max_values).map(|message| Fault::new("max_values", message)));
        let pattern = pattern.map(|source| match field_type {
            FieldType::Freeform => Pattern::compile(&source),
            _ => Err("is for Freeform fields only; a Select field lists its values".to_owned()),
        });
        let pattern = pattern.transpose().map_err(|message| faults.push(Fault::new("pattern", message)));
        match pattern {
            Ok(pattern) if faults.is_empty() => {
                let usual = if field_type == FieldType::SelectMulti { 0 } else { 1 };
                let max_values = max_values.unwrap_or(usual);
                Ok(Self { id, name, field_type, values, max_values, pattern, disabled: false })
            }
            _ => Err(faults),
        }
    }

    /// Returns true if a ticket may have more than one value, so that the value in JSON is a list.
    pub fn is_multiple(&self) -> bool {
        self.max_values != 1
    }

    /// Validates a value and returns it as it is stored: as listed for the Select types; for Freeform composed and without the
    /// blanks around it.
    ///
    /// # Errors
    /// The reason for rejecting it, and which values are valid.
    pub fn check_value(&self, value: &str) -> Result<String, String> {
        let value = &*typed(value);
        if is_empty(value) {
            return Err(format!("is empty; use null to clear {}", quote(&self.name)));
        }
        let too_long = fault(value, VALUE_MAX).or_else(|| {
            let folded = caseless(value).len();
            (folded > VALUE_MAX)
                .then(|| format!("is {folded} bytes long in lower case; at most {VALUE_MAX} are allowed"))
        });
        if let Some(message) = too_long {
            return Err(message);
        }
        match self.field_type {
            FieldType::Freeform => self.check_text(value),
            FieldType::SelectSingle | FieldType::SelectMulti => self.check_choice(value),
        }
    }

    /// Checks that a ticket may have this many values.
    ///
    /// # Errors
    /// A message with the maximum.
    pub fn check_count(&self, count: usize) -> Result<(), String> {
        let max = if self.max_values == 0 { COUNT_MAX } else { self.max_values };
        if u32::try_from(count).is_ok_and(|count| count <= max) {
            return Ok(());
        }
        let values = if max == 1 { "value" } else { "values" };
        Err(format!("{} allows at most {max} {values}, and this would make {count}", quote(&self.name)))
    }

    fn check_text(&self, value: &str) -> Result<String, String> {
        match &self.pattern {
            Some(pattern) if !pattern.is_match(value) => Err(format!(
                "{} does not match the pattern of {}, which the whole value must match: {}",
                quote(value),
                quote(&self.name),
                pattern.as_str()
            )),
            _ => Ok(value.to_owned()),
        }
    }

    fn check_choice(&self, value: &str) -> Result<String, String> {
        let folded = caseless(value);
        // Of two choices that differ only by a sharp s, which older versions allowed, each stays itself.
        let exact = self.values.iter().find(|listed| *listed == value);
        let listed = exact.or_else(|| self.values.iter().find(|listed| caseless(listed) == folded));
        listed.cloned().ok_or_else(|| {
            format!(
                "{} is not a value of {}; valid values are {}",
                quote(value),
                quote(&self.name),
                list(&self.values)
            )
        })
    }
}

/// A regular expression that a whole value must match, compiled within [`PATTERN_SIZE_MAX`].
#[derive(Debug, Clone)]
pub struct Pattern {
    source: String,
    whole: regex::Regex,
}

impl Pattern {
    /// Compiles a pattern. Matching takes time linear in the value, whatever the pattern.
    ///
    /// # Errors
    /// The reason why it is not a valid pattern.
    pub fn compile(source: &str) -> Result<Self, String> {
        if source.is_empty() {
            return Err("is empty, which matches no value; omit it to allow any value".to_owned());
        }
        if let Some(message) = fault(source, PATTERN_MAX) {
            return Err(message);
        }
        // First on its own: with the group around it, "a)|(?:b" would be well formed and escape the anchors.
        compile(source)?;
        let whole = compile(&format!(r"\A(?:{source})\z"))?;
        Ok(Self { source: source.to_owned(), whole })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Returns true if the whole value matches.
    pub fn is_match(&self, value: &str) -> bool {
        self.whole.is_match(value)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

fn compile(source: &str) -> Result<regex::Regex, String> {
    let built = regex::RegexBuilder::new(source).size_limit(PATTERN_SIZE_MAX).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            format!("is larger than {PATTERN_SIZE_MAX} bytes when compiled; use smaller repetitions")
        }
        other => {
            // The library's message has several lines that show the position; the last one describes the error.
            let text = other.to_string();
            let reason = text.lines().last().unwrap_or_default();
            format!("is not a regular expression: {}", reason.trim_start_matches("error: "))
        }
    })
}

fn choice_faults(field_type: FieldType, values: &[String]) -> Vec<Fault> {
    match (field_type, values.len()) {
        (FieldType::Freeform, 0) => return Vec::new(),
        (FieldType::Freeform, _) => {
            return vec![Fault::new("values", "are for Select fields only; a Freeform field takes any text")];
        }
        (_, 0) => return vec![Fault::new("values", "is empty; a Select field lists at least one value")],
        (_, count) if count > CHOICES_MAX => {
            let message = format!("lists {count} values; at most {CHOICES_MAX} are allowed");
            return vec![Fault::new("values", message)];
        }
        _ => {}
    }
    let mut first = BTreeMap::new();
    let faults = values.iter().enumerate().filter_map(|(at, value)| {
        let message = choice_fault(value).or_else(|| {
            let twin = first.insert(caseless(value), at)?;
            Some(format!("{} duplicates values[{twin}]; values are compared without case", quote(value)))
        });
        message.map(|message| Fault::new(format!("values[{at}]"), message))
    });
    faults.collect()
}

fn choice_fault(value: &str) -> Option<String> {
    if is_empty(value) {
        return Some(format!("is empty; a value has 1 to {VALUE_MAX} bytes"));
    }
    line_fault(value, VALUE_MAX).or_else(|| line_fault(&caseless(value), VALUE_MAX)).or_else(|| {
        (value.trim() != value).then(|| format!("{} begins or ends with a space; remove it", quote(value)))
    })
}

fn max_fault(field_type: FieldType, max_values: Option<u32>) -> Option<String> {
    match (field_type, max_values?) {
        (FieldType::SelectSingle, max) if max != 1 => {
            Some(format!("is {max}; SelectSingle takes exactly 1. Leave it out, or use SelectMulti"))
        }
        (_, max) if max > COUNT_MAX => {
            Some(format!("is {max}; at most {COUNT_MAX} are allowed, and 0 means any number up to that"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
