//! Custom fields: the values of a field, checked against its definition.

use super::{Cause, Draft, Line};
use crate::error::{Error, Fault, Result};
use crate::models::custom_field::COUNT_MAX;
use crate::models::{Change, CustomField, TransactionType, text};
use crate::plan::command::FieldChange;
use std::collections::HashSet;
use std::sync::Arc;

impl<'a> Draft<'a> {
    /// Returns the field of a name, if it is attached to the ticket's queue.
    pub fn field(&self, name: &str) -> Result<&'a Arc<CustomField>> {
        let queue = self.queue_now()?;
        let attached = || queue.custom_fields.iter().filter_map(|id| self.catalog.fields.get(*id));
        let place = format!("custom_fields.{name}");
        let field = self.catalog.fields.find(name).ok_or_else(|| {
            let known = text::list(attached().map(|field| field.name.as_str()));
            let message = format!(
                "there is no custom field {}; the queue {} has {known}",
                text::quote(name),
                text::quote(&queue.name)
            );
            Error::invalid_field(&place, message)
        })?;
        if !queue.custom_fields.contains(&field.id) {
            let known = text::list(attached().map(|field| field.name.as_str()));
            let message =
                format!("is not attached to the queue {}, which has {known}", text::quote(&queue.name));
            return Err(Error::invalid_field(place, message));
        }
        Ok(field)
    }

    pub fn change_field(&mut self, name: &str, change: &FieldChange, cause: Cause) -> Result<bool> {
        let field = self.field(name)?;
        let before = self.ticket.values_of(field.id).to_vec();
        let after = wanted_values(field, &before, change)?;
        let mut removed: Vec<_> = before.iter().filter(|value| !after.contains(value)).cloned().collect();
        let mut added: Vec<_> = after.iter().filter(|value| !before.contains(value)).cloned().collect();
        if removed.is_empty() && added.is_empty() {
            return Ok(false);
        }
        self.demand("ModifyCustomField", self.ticket.queue, cause)?;
        // Replacing one value is one transaction, so that a condition sees both the old and the new value.
        if !field.is_multiple() && removed.len() == 1 && added.len() == 1 {
            self.push_value(field, removed.pop(), added.pop(), cause);
        }
        for value in removed {
            self.push_value(field, Some(value), None, cause);
        }
        for value in added {
            self.push_value(field, None, Some(value), cause);
        }
        Ok(true)
    }

    fn push_value(
        &mut self,
        field: &CustomField,
        removed: Option<String>,
        added: Option<String>,
        cause: Cause,
    ) {
        let line = Line {
            field: Some(field.name.clone()),
            old: removed.clone(),
            new: added.clone(),
            ..Line::default()
        };
        let change = Change::CustomField { field: field.id, removed, added };
        self.push(TransactionType::CustomField, change, line, cause);
    }
}

/// Returns the values of a field after a change, validated, each as the field spells it.
pub(in crate::plan) fn wanted_values(
    field: &CustomField,
    before: &[String],
    change: &FieldChange,
) -> Result<Vec<String>> {
    let place = format!("custom_fields.{}", field.name);
    let mut faults = Vec::new();
    let most = usize::try_from(COUNT_MAX).unwrap_or(usize::MAX);
    let given = match change {
        FieldChange::Replace(values) => values.len(),
        FieldChange::Difference(difference) => difference.add.len() + difference.remove.len(),
    };
    if given > most {
        return Err(Error::invalid_field(place, format!("names {given} values; at most {most} are allowed")));
    }
    let mut checked = |values: &[String]| -> Vec<String> {
        let mut good = Vec::with_capacity(values.len());
        for value in values {
            match field.check_value(value) {
                Ok(value) if good.contains(&value) => {}
                Ok(value) => good.push(value),
                Err(message) => faults.push(Fault::new(&place, message)),
            }
        }
        good
    };
    let after = match change {
        FieldChange::Replace(values) => checked(values),
        FieldChange::Difference(difference) => {
            let (add, remove) = (checked(&difference.add), &difference.remove);
            let remove: HashSet<String> =
                remove.iter().map(|word| text::caseless(&text::typed(word))).collect();
            let gone = |value: &String| remove.contains(&text::caseless(value));
            if let Some(both) = add.iter().find(|value| gone(value)) {
                let message = format!("{} is both added and removed; name it once", text::quote(both));
                return Err(Error::invalid_field(place, message));
            }
            let mut after: Vec<String> = before.iter().filter(|value| !gone(value)).cloned().collect();
            let new: Vec<String> = add.into_iter().filter(|value| !after.contains(value)).collect();
            after.extend(new);
            after
        }
    };
    if let Err(message) = field.check_count(after.len()) {
        faults.push(Fault::new(&place, message));
    }
    if faults.is_empty() { Ok(after) } else { Err(Error::invalid(faults)) }
}
