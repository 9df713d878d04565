//! The description of the language: every field with its operators, every placeholder and form of date.

use super::*;
use crate::lifecycle::{Definition, Lifecycle};
use crate::models::{
    CustomField, CustomFieldId, LifecycleId, LifecycleVersionId, Named, Queue, QueueId, User, UserId,
};
use crate::models::{custom_field, custom_field::FieldType};
use crate::query::date::DateExpr;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

struct Desk {
    queues: Named<QueueId, Queue>,
    lifecycles: Named<LifecycleId, Lifecycle>,
    custom_fields: Named<CustomFieldId, CustomField>,
    agents: Named<UserId, User>,
    agent_addresses: HashMap<String, UserId>,
}

impl Desk {
    fn new() -> Self {
        let id = Uuid::from_u128;
        let definition: Definition = serde_json::from_value(serde_json::json!({
            "initial": ["new"], "active": ["open"], "inactive": ["deleted"],
            "transitions": { "": ["new"], "new": ["open", "deleted"], "open": ["deleted"], "deleted": ["open"] }
        }))
        .unwrap();
        let life = Lifecycle::compile(LifecycleId(id(1)), LifecycleVersionId(id(2)), "it's one", definition)
            .unwrap();
        let queue = Queue {
            id: QueueId(id(3)),
            name: "IT's \\ queue".to_owned(),
            description: None,
            lifecycle: life.id(),
            correspond_address: None,
            comment_address: None,
            cc: Vec::new(),
            admin_cc: Vec::new(),
            custom_fields: Vec::new(),
            disabled: false,
        };
        let field = custom_field::Definition {
            name: "a b".to_owned(),
            field_type: FieldType::Freeform,
            values: Vec::new(),
            max_values: None,
            pattern: None,
        };
        let field = CustomField::define(CustomFieldId(id(4)), field).unwrap();
        Self {
            queues: Named::new([(queue.id, queue.name.clone(), Arc::new(queue))]),
            lifecycles: Named::new([(life.id(), life.name().to_owned(), Arc::new(life))]),
            custom_fields: Named::new([(field.id, field.name.clone(), Arc::new(field))]),
            agents: Named::new([]),
            agent_addresses: HashMap::new(),
        }
    }

    fn fields<'a>(&'a self, purpose: Purpose<'a>) -> Fields<'a> {
        Fields {
            queues: &self.queues,
            lifecycles: &self.lifecycles,
            custom_fields: &self.custom_fields,
            agents: &self.agents,
            agent_addresses: &self.agent_addresses,
            purpose,
        }
    }
}

#[test]
fn every_field_is_described_with_the_operators_that_the_compiler_takes() {
    let desk = Desk::new();
    let described = describe(&desk.fields(Purpose::Condition));
    let table: Vec<String> = described
        .iter()
        .map(|field| {
            let Described { name, kind, parts, search, condition, is_orderable, .. } = field;
            format!(
                "{name} | {kind} | {} | {}\n  search: {}\n  condition: {}",
                parts.join(" "),
                if *is_orderable { "orderable" } else { "" },
                search.join(", "),
                condition.join(", ")
            )
        })
        .collect();
    insta::assert_snapshot!(table.join("\n"));
    for field in described {
        assert!(!field.search.is_empty() || !field.condition.is_empty(), "{} takes no operator", field.name);
    }
}

#[test]
fn every_placeholder_and_every_date_can_be_written_where_it_is_said_to() {
    let desk = Desk::new();
    let fields = [desk.fields(Purpose::Search(&[])), desk.fields(Purpose::Condition)];
    for (word, names, _) in PLACEHOLDERS {
        for name in names {
            let query = parse(&format!("{name} = {word}"), Dialect::Tessera).unwrap().query;
            assert!(fields.iter().any(|fields| resolve(&query, fields).is_ok()), "{name} = {word}");
        }
    }
    for date in DATES {
        assert!(DateExpr::parse(date).is_ok(), "{date}");
    }
}
