//! Custom fields: a change cannot remove a value or type that tickets use.

use super::mentions::Thing;
use super::{Document, Edit, limit, naming};
use crate::db::configuration::{Which, custom_fields, tickets};
use crate::error::{Code, Error, Result};
use crate::models::custom_field::{COUNT_MAX, Definition};
use crate::models::text::{caseless, fold, quote};
use crate::models::{CustomField, CustomFieldId};
use crate::plan::catalog::FIELDS_MAX;
use crate::plan::documents::{CustomFieldDocument, Stored};
use crate::scrip::template::is_field;
use serde_json::{Map, Value};
use sqlx::PgConnection;
use uuid::Uuid;

impl Document for CustomFieldDocument {
    const WHAT: &'static str = "custom field";

    async fn id_of(db: &mut PgConnection, word: &str) -> Result<Option<Uuid>> {
        custom_fields::id_of(db, word).await
    }

    async fn read(db: &mut PgConnection, which: Which<'_>) -> Result<Vec<Stored<Self>>> {
        custom_fields::read(db, which).await
    }

    async fn write(&self, change: &mut Edit<'_>, before: Option<&Stored<Self>>) -> Result<Uuid> {
        let id = before.map_or_else(|| change.ids.draw(), |before| CustomFieldId(before.id));
        let definition = Definition {
            name: self.name.clone(),
            field_type: self.field_type,
            values: self.values.clone(),
            max_values: self.max_values,
            pattern: self.pattern.clone(),
        };
        let mut field = CustomField::define(id, definition).map_err(Error::invalid)?;
        field.disabled = self.disabled;
        match before {
            None => limit("custom fields", change.catalog.fields.len(), FIELDS_MAX)?,
            Some(before) => {
                self.check_scrips(change, &before.document).await?;
                self.check_values(change, before, field.max_values).await?;
            }
        }
        custom_fields::write(&mut change.db, &field, change.version).await?;
        Ok(id.0)
    }

    fn remove_superseded(document: &mut Map<String, Value>, patch: &Map<String, Value>) {
        // Members that only the old type has need not be removed by the patch.
        let Some(wanted) =
            patch.get("field_type").filter(|wanted| document.get("field_type") != Some(wanted))
        else {
            return;
        };
        document.remove("max_values");
        document.remove(if wanted == "Freeform" { "values" } else { "pattern" });
    }
}

impl CustomFieldDocument {
    async fn check_scrips(&self, change: &mut Edit<'_>, before: &Self) -> Result<()> {
        let goes = fold(&self.name) != fold(&before.name) || (self.disabled && !before.disabled);
        if !goes {
            return Ok(());
        }
        let what = format!("the custom field {}", quote(&before.name));
        let scrips = change.scrips_naming(Thing::Field, &[&before.name]).await?;
        change.scrips_in_use(&what, &scrips)?;
        let reads = |template: &&std::sync::Arc<crate::scrip::template::Template>| {
            template.custom_fields().iter().any(|field| is_field(field, &before.name))
        };
        let templates: Vec<_> =
            change.catalog.templates.values().filter(reads).map(|one| one.source().name.clone()).collect();
        if templates.is_empty() {
            return Ok(());
        }
        change.in_use(naming("template", &templates, &what))
    }

    /// Rejects another type if tickets have values of the field, the removal of listed values that tickets have, and a limit
    /// below the number of values that a ticket has.
    async fn check_values(
        &self,
        change: &mut Edit<'_>,
        before: &Stored<Self>,
        max_values: u32,
    ) -> Result<()> {
        let is_listed =
            |values: &[String], value: &str| values.iter().any(|listed| caseless(listed) == caseless(value));
        let other_type = self.field_type != before.document.field_type;
        let fewer = before.document.values.iter().any(|value| !is_listed(&self.values, value));
        let limit = |most: u32| if most == 0 { COUNT_MAX } else { most };
        let lower = limit(max_values) < limit(before.document.max_values.unwrap_or(0));
        if !other_type && !fewer && !lower {
            return Ok(());
        }
        tickets::hold(&mut change.db).await?;
        let used = custom_fields::values_in_use(&mut change.db, before.id).await?;
        let refused = |detail| Err(Error::new(Code::InUse, detail));
        if other_type && !used.is_empty() {
            let total: i64 = used.values().sum();
            let values = if total == 1 { "value" } else { "values" };
            return refused(format!(
                "Tickets have {total} {values} of {}, so its type cannot change. Create another field, or clear these values first.",
                quote(&before.document.name)
            ));
        }
        let above = if lower {
            custom_fields::tickets_above(&mut change.db, before.id, max_values).await?
        } else {
            0
        };
        if above > 0 {
            let (tickets, have) = if above == 1 { ("ticket", "has") } else { ("tickets", "have") };
            return refused(format!(
                "{above} {tickets} {have} more than {max_values} values of {}, which would be hidden. Allow more values, or remove some from these tickets first.",
                quote(&before.document.name)
            ));
        }
        if !fewer {
            return Ok(());
        }
        let lost: Vec<_> = used
            .iter()
            .filter(|(value, _)| !is_listed(&self.values, value))
            .map(|(value, tickets)| {
                format!("{} ({tickets} {})", quote(value), if *tickets == 1 { "ticket" } else { "tickets" })
            })
            .collect();
        if lost.is_empty() {
            return Ok(());
        }
        refused(format!(
            "Tickets have values that {} would no longer list: {}. Keep these values, or change the tickets first.",
            quote(&before.document.name),
            lost.join(", ")
        ))
    }
}
