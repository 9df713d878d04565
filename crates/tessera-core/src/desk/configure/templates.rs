//! Templates: compiled before they are stored; a template that scrips use cannot be removed.

use super::mentions::Thing;
use super::scrips::queues_of;
use super::{Document, Edit, Versioned, limit};
use crate::db::configuration::{Version, Which, templates};
use crate::error::{Error, Result};
use crate::models::text::{fold, list, name_fault, quote};
use crate::models::{QueueId, TemplateId, TemplateSource};
use crate::plan::catalog::TEMPLATES_MAX;
use crate::plan::documents::{ScripDocument, Stored, TemplateDocument};
use crate::scrip::action::webhook::escape_of_body;
use crate::scrip::template::{Mode, Template, is_field};
use sqlx::PgConnection;
use std::collections::BTreeSet;
use uuid::Uuid;

impl Document for TemplateDocument {
    const WHAT: &'static str = "template";

    async fn id_of(db: &mut PgConnection, word: &str) -> Result<Option<Uuid>> {
        templates::id_of(db, word).await
    }

    async fn read(db: &mut PgConnection, which: Which<'_>) -> Result<Vec<Stored<Self>>> {
        templates::read(db, which).await
    }

    async fn write(&self, change: &mut Edit<'_>, before: Option<&Stored<Self>>) -> Result<Uuid> {
        change.fault_if("name", name_fault(&self.name));
        let queue = self.queue.as_deref().and_then(|word| change.queue("queue", word));
        let source = TemplateSource {
            id: before.map_or_else(|| change.ids.draw(), |before| TemplateId(before.id)),
            version_id: change.ids.draw(),
            version: before.and_then(|before| before.version).unwrap_or(0) + 1,
            name: self.name.clone(),
            queue,
            subject: self.subject_template.clone(),
            body: self.body_template.clone(),
            content_type: self.content_type,
            headers: self.headers.clone(),
            disabled: self.disabled,
        };
        let compiled = Template::compile(&source);
        let template = compiled.map_err(|faults| change.faults.extend(faults)).ok();
        if let Some(template) = &template {
            self.check_webhooks(change, template).await?;
        }
        change.check()?;
        match before {
            None => limit("templates", change.catalog.templates.len(), TEMPLATES_MAX)?,
            Some(before) => self.check_use(change, before, queue).await?,
        }
        if let Some(template) = &template {
            change.warn_of_fields(&template.custom_fields());
        }
        templates::write(&mut change.db, &source, change.actor, change.version).await?;
        Ok(source.id.0)
    }
}

impl Versioned for TemplateDocument {
    async fn versions(
        db: &mut PgConnection,
        id: Uuid,
        below: Option<i32>,
        limit: i64,
    ) -> Result<Vec<Version>> {
        templates::versions(db, id, below, limit).await
    }
}

impl TemplateDocument {
    /// Checks that a template can be the body of the webhooks that use it.
    async fn check_webhooks(&self, change: &mut Edit<'_>, template: &Template) -> Result<()> {
        for scrip in change.live_scrips().await? {
            if let Some(escape) = scrip.document.takes_body_from(&self.name)
                && let Err(reason) = template.webhook_body(escape)
            {
                let scrip = quote(&scrip.document.name);
                change.fault("body_template", format!("is the body of the webhook of {scrip}, but {reason}"));
                break;
            }
        }
        Ok(())
    }

    /// Checks that a template that is renamed, moved or disabled leaves its scrips another template of the same name.
    async fn check_use(
        &self,
        change: &mut Edit<'_>,
        before: &Stored<Self>,
        queue: Option<QueueId>,
    ) -> Result<()> {
        let old = &before.document;
        let old_queue =
            change.catalog.templates.get(&TemplateId(before.id)).and_then(|one| one.source().queue);
        let goes = self.name != old.name || queue != old_queue || self.disabled;
        let steps_back = queue.is_none() && self.name == old.name && !self.disabled;
        let global = change.catalog.templates.values().any(|one| {
            let source = one.source();
            source.id.0 != before.id && source.queue.is_none() && !source.disabled && source.name == old.name
        });
        if old.disabled || !goes || steps_back || global {
            return Ok(());
        }
        let concerned: BTreeSet<String> = change
            .live_scrips()
            .await?
            .into_iter()
            .filter(|scrip| scrip.document.template.as_ref() == Some(&old.name))
            .filter(|scrip| {
                let queues = queues_of(&change.catalog, &scrip.document);
                let mut found = queues.iter().filter_map(|queue| change.catalog.template(&old.name, *queue));
                found.any(|template| template.source().id.0 == before.id)
            })
            .map(|scrip| scrip.document.name)
            .collect();
        let concerned: Vec<_> = concerned.into_iter().collect();
        change.scrips_in_use(&format!("the template {}", quote(&old.name)), &concerned)
    }
}

impl ScripDocument {
    /// For a webhook whose body is the template with this name: how values in it are escaped.
    pub(super) fn takes_body_from(&self, template: &str) -> Option<Mode> {
        let takes = self.action_type == "Webhook"
            && self.template.as_deref() == Some(template)
            && self.action_config.get("body").is_none_or(serde_json::Value::is_null);
        if takes { escape_of_body(&self.action_config) } else { None }
    }
}

impl Edit<'_> {
    /// Warns of custom fields that no queue has, because rendering them fails.
    pub(super) fn warn_of_fields(&mut self, names: &BTreeSet<&str>) {
        let attached: BTreeSet<_> =
            self.catalog.queues.iter().flat_map(|queue| queue.custom_fields.iter().copied()).collect();
        let is_had = |name: &str| {
            self.catalog
                .fields
                .iter()
                .any(|field| is_field(name, &field.name) && attached.contains(&field.id))
        };
        let unknown: Vec<_> = names.iter().copied().filter(|name| !is_had(name)).collect();
        if !unknown.is_empty() {
            let (plural, pronoun) = if unknown.len() == 1 { ("", "it") } else { ("s", "them") };
            let fields = list(&unknown);
            self.warnings.push(format!(
                "No queue has the custom field{plural} {fields}; scrips that use {pronoun} fail."
            ));
        }
    }
}

/// Returns the message for a template that does not exist in the queues of a scrip.
pub(super) fn unknown_template(change: &Edit<'_>, name: &str) -> String {
    let live = change.catalog.templates.values().filter(|one| !one.source().disabled);
    let names: BTreeSet<&str> = live.map(|one| one.source().name.as_str()).collect();
    format!(
        "there is no template {} for these queues, nor a global one; existing templates: {}",
        quote(name),
        list(names)
    )
}

impl Edit<'_> {
    /// Returns the enabled scrips that name an object literally.
    pub(super) async fn scrips_naming(&mut self, thing: Thing, names: &[&str]) -> Result<Vec<String>, Error> {
        let scrips = self.live_scrips().await?;
        let names: Vec<String> = names.iter().map(|name| fold(name)).collect();
        let is_named = |document: &ScripDocument| {
            super::mentions::of(&self.catalog, document)
                .iter()
                .any(|mention| mention.thing == thing && names.contains(&fold(&mention.name)))
        };
        Ok(scrips
            .into_iter()
            .filter(|scrip| is_named(&scrip.document))
            .map(|scrip| scrip.document.name)
            .collect())
    }
}
