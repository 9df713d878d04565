//! Custom fields: what a desk writes down about a ticket beyond what every ticket has, and what may be written there.

use super::id::CustomFieldId;
use super::text::{VALUE_MAX, fault, fold, line_fault, list, name_fault, quote};
use crate::error::Fault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many values a Select field may list.
pub const CHOICES_MAX: usize = 1_000;
/// How many values of one field a ticket may have, also where the field says any number.
pub const COUNT_MAX: u32 = 1_000;
/// The longest pattern, in bytes.
pub const PATTERN_MAX: usize = 1_000;
/// The largest compiled pattern, in bytes.
pub const PATTERN_SIZE_MAX: usize = 1 << 20;

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

/// A custom field as it is written down, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Unique, compared without case.
    pub name: String,
    /// How it is filled in.
    pub field_type: FieldType,
    /// What may be chosen, for the two Select types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// How many values a ticket may have; 0 = any number. Else 1, for SelectMulti 0.
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
    /// How it is filled in.
    pub field_type: FieldType,
    /// What may be chosen, for the two Select types.
    pub values: Vec<String>,
    /// How many values a ticket may have; 0 = any number, up to [`COUNT_MAX`].
    pub max_values: u32,
    /// What a Freeform value must match.
    pub pattern: Option<Pattern>,
    /// Disabled fields keep their values and are shown nowhere.
    pub disabled: bool,
}

impl CustomField {
    /// Checks a definition: what makes a field, enabled.
    ///
    /// # Errors
    /// Every fault there is, with paths such as `values[1]`.
    pub fn define(id: CustomFieldId, definition: Definition) -> Result<Self, Vec<Fault>> {
        let Definition { name, field_type, values, max_values, pattern } = definition;
        let mut faults = Vec::new();
        let name_fault = name_fault(&name).or_else(|| {
            // CF.{Severity} is how queries name a field.
            name.contains(['{', '}'])
                .then(|| "holds a brace, which ends a field's name in queries".to_owned())
        });
        faults.extend(name_fault.map(|message| Fault::new("name", message)));
        faults.extend(choice_faults(field_type, &values));
        faults.extend(max_fault(field_type, max_values).map(|message| Fault::new("max_values", message)));
        let pattern = pattern.map(|source| match field_type {
            FieldType::Freeform => Pattern::compile(&source),
            _ => Err("is for Freeform fields only; the values of a Select field are listed".to_owned()),
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

    /// Whether a ticket may have more than one value; then its JSON is a list.
    pub fn is_multiple(&self) -> bool {
        self.max_values != 1
    }

    /// The value as it is stored: as listed for the Select types, as given for Freeform.
    ///
    /// # Errors
    /// Why it cannot be taken, with what could be.
    pub fn check_value(&self, value: &str) -> Result<String, String> {
        if value.is_empty() {
            return Err(format!("is empty; use null to clear {}", quote(&self.name)));
        }
        let too_long = fault(value, VALUE_MAX).or_else(|| {
            let folded = fold(value).len();
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

    /// Whether a ticket may have so many values.
    ///
    /// # Errors
    /// How many it may have.
    pub fn check_count(&self, count: usize) -> Result<(), String> {
        let max = if self.max_values == 0 { COUNT_MAX } else { self.max_values };
        if u32::try_from(count).is_ok_and(|count| count <= max) {
            return Ok(());
        }
        let values = if max == 1 { "value" } else { "values" };
        Err(format!("{} takes at most {max} {values}, and this makes {count}", quote(&self.name)))
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
        let folded = fold(value);
        self.values.iter().find(|listed| fold(listed) == folded).cloned().ok_or_else(|| {
            format!(
                "{} is not a value of {}; there are {}",
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
    /// Why it cannot be one.
    pub fn compile(source: &str) -> Result<Self, String> {
        if source.is_empty() {
            return Err("is empty, which no value matches; leave it out to allow any value".to_owned());
        }
        if let Some(message) = fault(source, PATTERN_MAX) {
            return Err(message);
        }
        // Alone first: wrapped, "a)|(?:b" would be well formed and slip out of its anchors.
        compile(source)?;
        let whole = compile(&format!(r"\A(?:{source})\z"))?;
        Ok(Self { source: source.to_owned(), whole })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether the whole value matches.
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
            // The library draws the place over several lines; the last one says what is wrong.
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
            let twin = first.insert(fold(value), at)?;
            Some(format!(
                "{} stands at values[{twin}] already; values are compared without case",
                quote(value)
            ))
        });
        message.map(|message| Fault::new(format!("values[{at}]"), message))
    });
    faults.collect()
}

fn choice_fault(value: &str) -> Option<String> {
    if value.is_empty() {
        return Some(format!("is empty; a value has 1 to {VALUE_MAX} bytes"));
    }
    line_fault(value, VALUE_MAX).or_else(|| line_fault(&fold(value), VALUE_MAX)).or_else(|| {
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
#[path = "custom_field_tests.rs"]
mod tests;
