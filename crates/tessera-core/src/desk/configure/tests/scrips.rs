//! Scrips: the messages of rejected scrips, the short forms, and the versions.

use super::*;
use crate::models::secret::Secret;

async fn refused(desk: &Tessera, more: Value) -> (String, String) {
    fault(add::<ScripDocument>(desk, a_scrip(more)).await)
}

#[tokio::test]
async fn what_a_scrip_names_must_exist_and_the_message_lists_what_does() {
    let desk = desk().await;
    let cases = [
        (json!({ "queue": "Nope" }), "queue", "there is no queue \"Nope\"; existing queues: \"General\""),
        (json!({ "queues": ["General", { "queue": "general" }] }), "queues[1]", "is a duplicate"),
        (json!({ "queues": [] }), "queues", "is empty; leave it out for every queue"),
        (json!({ "queue": "General", "queues": [{ "queue": null }] }), "queue", "contradicts queues"),
        (json!({ "state": "shadow", "disabled": true }), "disabled", "contradicts state"),
        (
            json!({ "template": "Nope" }),
            "template",
            "there is no template \"Nope\" for these queues, nor a global one; existing templates: \"Admin Comment\"",
        ),
        (json!({ "template": null }), "template", "is missing; SendEmail requires a template"),
        (
            json!({ "condition_type": "OnFoo" }),
            "condition_type",
            "unknown condition \"OnFoo\"; use one of: OnCreate",
        ),
        (json!({ "action_type": "Foo" }), "action_type", "unknown action \"Foo\"; use one of: SendEmail"),
        (
            json!({ "applicable_types": ["Status"] }),
            "applicable_types[0]",
            "OnCreate never matches transactions of the type \"Status\"; allowed types: \"Create\"",
        ),
        (
            json!({ "condition_type": "OnTransaction", "applicable_types": ["EmailRecord"] }),
            "applicable_types[0]",
            "OnTransaction never matches transactions of the type \"EmailRecord\"",
        ),
        (json!({ "applicable_types": [] }), "applicable_types", "is empty"),
        (
            json!({ "condition_type": "OnStatusChange", "condition_config": { "to": "fixed" } }),
            "condition_config.to[0]",
            "there is no status \"fixed\" in the lifecycles of these queues; existing statuses: \"deleted\"",
        ),
        (
            json!({ "condition_type": "OnCustomFieldChange", "condition_config": { "field": "Nope" } }),
            "condition_config.field",
            "there is no custom field \"Nope\"; existing custom fields: none",
        ),
        (
            json!({ "condition_config": { "query": "x" } }),
            "condition_config.query",
            "expected an operator after x",
        ),
        (
            json!({ "condition_type": "UserDefined" }),
            "condition_config.query",
            "is missing; UserDefined requires a query",
        ),
        (json!({ "condition_config": { "qurey": "x" } }), "condition_config", "unknown field `qurey`"),
        (
            json!({ "action_type": "SetStatus", "action_config": { "status": "fixed" } }),
            "action_config.status",
            "there is no status \"fixed\"",
        ),
        (
            json!({ "action_type": "SetCustomField", "action_config": { "field": "Nope", "value": "x" } }),
            "action_config.field",
            "there is no custom field \"Nope\"",
        ),
        (
            json!({ "action_type": "SetQueue", "action_config": { "value": "Nope" } }),
            "action_config.value",
            "there is no queue \"Nope\"",
        ),
        (
            json!({ "action_type": "SetOwner", "action_config": { "value": "nope" } }),
            "action_config.value",
            "there is no privileged user \"nope\"",
        ),
        (
            json!({ "action_type": "AddWatcher", "action_config": { "role": "cc", "who": "nope" } }),
            "action_config.who",
            "\"nope\" is neither a privileged user nor a mail address",
        ),
        (
            json!({ "action_type": "SetSubject", "action_config": { "value": "{{ tickt }}" } }),
            "action_config.value",
            "unknown variable \"tickt\"",
        ),
    ];
    for (more, field, message) in cases {
        let told = refused(&desk, more.clone()).await;
        assert!(told.0 == field && told.1.starts_with(message), "{more}: {told:?}");
    }
    assert_eq!(version(&desk).await, 1);
    assert_eq!(count(&desk, "SELECT count(*) FROM scrips").await, 9);
}

#[tokio::test]
async fn a_webhook_goes_where_the_guard_lets_it_and_needs_its_secrets() {
    let desk = desk().await;
    let webhook =
        |config: Value| json!({ "action_type": "Webhook", "template": null, "action_config": config });
    let (field, message) = refused(&desk, webhook(json!({ "url": "http://127.0.0.1:9/x" }))).await;
    assert_eq!(field, "action_config.url");
    assert!(message.contains("127.0.0.1/32") && message.contains("TESSERA_WEBHOOK__ALLOW"), "{message}");
    assert_eq!(refused(&desk, webhook(json!({ "url": "http://localhost/x" }))).await.0, "action_config.url");
    assert_eq!(
        refused(&desk, webhook(json!({ "url": "http://{{ queue.name }}/x" }))).await.0,
        "action_config.url"
    );
    let (field, message) =
        refused(&desk, webhook(json!({ "url": "https://crm.example/x", "secret": "crm" }))).await;
    assert_eq!(field, "action_config.secret");
    assert_eq!(message, "there is no secret \"crm\"; create it with PUT /api/secrets/crm");
    let header =
        json!({ "url": "https://crm.example/x", "headers": { "Authorization": { "secret": "api" } } });
    assert_eq!(refused(&desk, webhook(header.clone())).await.0, "action_config.headers");
    desk.put_secret(&desk.administrator().unwrap(), "api", &Secret::new("Bearer t0p")).await.unwrap();
    let unsigned = refused(&desk, webhook(json!({ "url": "https://crm.example/x", "secret": "api" }))).await;
    assert!(unsigned.1.contains("does not begin with \"whsec_\""), "{unsigned:?}");
    add::<ScripDocument>(&desk, a_scrip(webhook(header))).await.unwrap();
}

#[tokio::test]
async fn a_template_that_fills_a_webhook_is_json() {
    let desk = desk().await;
    let unclosed = json!({ "name": "Body", "body_template": "{ \"s\": \"{{ ticket.subject }} }" });
    add::<TemplateDocument>(&desk, unclosed).await.unwrap();
    let webhook = json!({ "action_type": "Webhook", "template": "Body", "action_config": { "url": "https://crm.example/x" } });
    let told = refused(&desk, webhook.clone()).await;
    assert!(
        told.0 == "template" && told.1.starts_with("\"Body\" cannot be the body of this webhook:"),
        "{told:?}"
    );
    let closed = json!({ "body_template": "{ \"s\": \"{{ ticket.subject }}\" }" });
    change::<TemplateDocument>(&desk, "Body", closed).await.unwrap();
    add::<ScripDocument>(&desk, a_scrip(webhook)).await.unwrap();
    let (field, message) = fault(
        change::<TemplateDocument>(
            &desk,
            "Body",
            json!({ "body_template": "{ \"s\": \"{{ ticket.subject }} }" }),
        )
        .await,
    );
    assert!(
        field == "body_template" && message.starts_with("is the body of the webhook of \"Tell\", but "),
        "{message}"
    );
}

#[tokio::test]
async fn short_and_long_forms_are_one_and_answers_have_both() {
    let desk = desk().await;
    add::<QueueDocument>(&desk, json!({ "name": "Billing" })).await.unwrap();
    let everywhere = add::<ScripDocument>(&desk, a_scrip(json!({ "sort_order": 5 }))).await.unwrap();
    let shown = serde_json::to_value(&everywhere).unwrap();
    assert_eq!((&shown["queue"], &shown["queues"]), (&Value::Null, &Value::Null));
    assert_eq!((&shown["stage"], &shown["sort_order"]), (&json!("TransactionCreate"), &json!(5)));
    assert_eq!(
        (&shown["state"], &shown["disabled"], &shown["version"]),
        (&json!("enabled"), &json!(false), &json!(1))
    );

    let one = change::<ScripDocument>(&desk, "tell", json!({ "queue": "billing" })).await.unwrap();
    let shown = serde_json::to_value(&one).unwrap();
    assert_eq!(shown["queue"], "Billing");
    assert_eq!(
        shown["queues"],
        json!([{ "queue": "Billing", "stage": "TransactionCreate", "sort_order": 5 }])
    );
    let two = json!({ "queues": ["General", { "queue": "Billing", "stage": "TransactionBatch", "sort_order": 9 }] });
    let two = change::<ScripDocument>(&desk, "Tell", two).await.unwrap();
    let shown = serde_json::to_value(&two).unwrap();
    assert_eq!(shown["queue"], Value::Null);
    assert_eq!(
        shown["queues"][0],
        json!({ "queue": "General", "stage": "TransactionCreate", "sort_order": 5 })
    );
    assert_eq!(shown["queues"][1]["stage"], "TransactionBatch");
    let moved = change::<ScripDocument>(&desk, "Tell", json!({ "sort_order": 7 })).await.unwrap();
    let shown = serde_json::to_value(&moved).unwrap();
    assert_eq!(
        (&shown["queues"][0]["sort_order"], &shown["queues"][1]["sort_order"]),
        (&json!(7), &json!(7))
    );
    assert_eq!(shown["queues"][1]["stage"], "TransactionBatch", "only what was named");

    let shadow = change::<ScripDocument>(&desk, "Tell", json!({ "state": "shadow" })).await.unwrap();
    assert_eq!(shadow.stored.document.disabled, Some(false));
    let same = change::<ScripDocument>(&desk, "Tell", json!({ "disabled": false })).await.unwrap();
    assert_eq!(
        (same.stored.document.state, same.stored.version),
        (Some(crate::scrip::State::Shadow), shadow.stored.version)
    );
    let off = change::<ScripDocument>(&desk, "Tell", json!({ "disabled": true })).await.unwrap();
    assert_eq!(off.stored.document.state, Some(crate::scrip::State::Disabled));
    let global =
        change::<ScripDocument>(&desk, "Tell", json!({ "queues": null, "disabled": false })).await.unwrap();
    assert_eq!(
        (global.stored.document.queues, global.stored.document.state),
        (None, Some(crate::scrip::State::Enabled))
    );
}

#[tokio::test]
async fn a_disabled_scrip_may_name_missing_objects_and_cannot_be_enabled() {
    let desk = desk().await;
    let saved =
        add::<ScripDocument>(&desk, a_scrip(json!({ "template": "Nope", "disabled": true }))).await.unwrap();
    assert!(saved.warnings[0].starts_with("template: there is no template \"Nope\""), "{:?}", saved.warnings);
    assert_eq!(
        fault(change::<ScripDocument>(&desk, "Tell", json!({ "disabled": false })).await).0,
        "template"
    );
    force::<TemplateDocument>(&desk, "Resolved", json!({ "disabled": true })).await.unwrap();
    change::<ScripDocument>(&desk, "On Resolve Notify Requestors", json!({ "disabled": true }))
        .await
        .unwrap();
}

#[tokio::test]
async fn each_change_of_a_scrip_appends_a_version() {
    let desk = desk().await;
    add::<ScripDocument>(&desk, a_scrip(json!({}))).await.unwrap();
    change::<ScripDocument>(&desk, "Tell", json!({ "description": "once" })).await.unwrap();
    change::<ScripDocument>(
        &desk,
        "Tell",
        json!({ "action_type": "SetPriority", "action_config": { "value": "4" }, "template": null }),
    )
    .await
    .unwrap();
    let first =
        desk.versions::<ScripDocument>(&desk.administrator().unwrap(), "tell", None, 2).await.unwrap();
    assert_eq!(first.items.iter().map(|one| one.version).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(
        (first.items[0].document["action_type"].as_str(), first.items[0].creator.as_str()),
        (Some("SetPriority"), "admin")
    );
    let rest = desk
        .versions::<ScripDocument>(&desk.administrator().unwrap(), "tell", first.next_cursor.as_deref(), 2)
        .await
        .unwrap();
    assert_eq!((rest.items.len(), rest.items[0].version, rest.next_cursor), (1, 1, None));
    assert_eq!(rest.items[0].document["description"], Value::Null);
    let current = desk.catalog().scrips.find("tell").unwrap().version_id;
    assert_eq!(current.0, first.items[0].id, "what the scrip does names this version");
}

#[tokio::test]
async fn a_template_of_one_queue_only_causes_a_warning_for_the_others() {
    let desk = desk().await;
    add::<QueueDocument>(&desk, json!({ "name": "Billing" })).await.unwrap();
    let own = json!({ "name": "Invoice", "queue": "Billing", "body_template": "x" });
    add::<TemplateDocument>(&desk, own).await.unwrap();
    let saved = add::<ScripDocument>(&desk, a_scrip(json!({ "template": "Invoice" }))).await.unwrap();
    assert_eq!(
        saved.warnings,
        ["Template \"Invoice\" does not exist for the queues \"General\"; the scrip fails in these queues."]
    );
    let told = refused(&desk, json!({ "name": "Other", "queue": "General", "template": "Invoice" })).await;
    assert_eq!(told.0, "template");
    // A queue that is named must have it.
    change::<ScripDocument>(&desk, "Tell", json!({ "queues": ["Billing"] })).await.unwrap();
    let told =
        fault(change::<ScripDocument>(&desk, "Tell", json!({ "queues": ["Billing", "General"] })).await);
    assert!(told.1.contains("does not exist for the queues \"General\""), "{told:?}");

    // A global template that the queue's own replaces for every scrip is not in use.
    let global =
        add::<TemplateDocument>(&desk, json!({ "name": "Invoice", "body_template": "y" })).await.unwrap();
    let id = global.stored.id.to_string();
    change::<TemplateDocument>(&desk, &id, json!({ "disabled": true })).await.unwrap();
    change::<TemplateDocument>(&desk, &id, json!({ "disabled": false })).await.unwrap();
    change::<ScripDocument>(&desk, "Tell", json!({ "queues": ["Billing", "General"] })).await.unwrap();
    conflict(change::<TemplateDocument>(&desk, &id, json!({ "disabled": true })).await, Code::InUse);
}

#[tokio::test]
async fn the_types_are_published_with_their_schemas() {
    let desk = desk().await;
    let new = crate::desk::configure::NewConnector {
        name: "chatter".to_owned(),
        kinds: vec!["chat".to_owned(), "pager".to_owned(), "email".to_owned()],
        user: None,
    };
    let (connector, _) = desk.add_connector(&desk.administrator().unwrap(), new).await.unwrap();
    for (kind, schema) in [("chat", r#"{"type": "object"}"#), ("email", "")] {
        desk.announce(&connector, kind, schema, "chat 1").await.unwrap();
    }
    let types = scrip_types(&desk.fresh_catalog().await.unwrap());
    let kinds = json!({
        "chat": {"schema": {"type": "object"}, "is_announced": true},
        "pager": {"schema": null, "is_announced": false},
    });
    assert_eq!(types["kinds"], kinds, "email has an action of its own");
    let payload = types["actions"]["Connector"]["schema"]["properties"]["payload"].clone();
    assert_eq!(payload.get("type"), None, "any JSON: {payload}");
    assert_eq!(types["conditions"]["OnStatusChange"]["transaction_types"], json!(["Status"]));
    assert_eq!(types["conditions"]["OnCustomFieldChange"]["transaction_types"], json!(["CustomField"]));
    assert!(types["conditions"]["OnStatusChange"]["schema"]["properties"]["from"].is_object());
    assert!(types["actions"]["Webhook"]["schema"]["properties"]["url"].is_object());
    for kind in ["conditions", "actions"] {
        for (name, published) in types[kind].as_object().unwrap() {
            assert!(published["schema"].is_object(), "{name} has no schema");
        }
    }
    assert_eq!(types["conditions"].as_object().unwrap().len(), 14);
    assert!(types["conditions"]["UserDefined"]["transaction_types"].as_array().unwrap().len() > 5);
    for published in types["conditions"].as_object().unwrap().values() {
        assert_eq!(published["schema"]["properties"]["query"]["type"], "string");
    }
    assert_eq!(types["actions"].as_object().unwrap().len(), 14);
    assert_eq!(types["states"], json!(["enabled", "disabled", "shadow"]));
    assert!(!types["transaction_types"].as_array().unwrap().contains(&json!("EmailRecord")));
}

#[tokio::test]
async fn a_payload_is_validated_against_the_schema_of_its_kind_as_far_as_templates_allow() {
    let desk = desk().await;
    let scrip = |kind: &str, payload: Value| {
        a_scrip(
            json!({"action_type": "Connector", "action_config": {"kind": kind, "payload": payload}, "template": null}),
        )
    };
    let refused =
        async |kind: &str, payload: Value| fault(add::<ScripDocument>(&desk, scrip(kind, payload)).await);
    let (field, message) = refused("chat", json!({})).await;
    assert_eq!(field, "action_config.kind");
    assert_eq!(
        message,
        "there is no connector kind \"chat\"; existing kinds: none. To create it, run `tessera connector add NAME --kind chat`"
    );
    let (field, message) = refused("email", json!({})).await;
    assert_eq!(field, "action_config");
    assert!(message.contains("emails and webhooks have their own actions"), "{message}");

    let new = crate::desk::configure::NewConnector {
        name: "chatter".to_owned(),
        kinds: vec!["chat".to_owned(), "pager".to_owned()],
        user: None,
    };
    let (connector, _) = desk.add_connector(&desk.administrator().unwrap(), new).await.unwrap();
    let schema = r##"{"required": ["channel"], "additionalProperties": false,
        "properties": {"channel": {"pattern": "^#"}, "number": {"type": "integer"}}}"##;
    desk.announce(&connector, "chat", schema, "chat 1").await.unwrap();
    let table = [
        (json!({"number": 1}), "action_config.payload", "\"channel\" is a required property"),
        (json!({"channel": "a"}), "action_config.payload/channel", "does not match"),
        (
            json!({"channel": "{{ queue.name }}", "number": "1"}),
            "action_config.payload/number",
            "not of type",
        ),
        (
            json!({"channel": "#a", "more": "{{ queue.name }}"}),
            "action_config.payload",
            "'more' was unexpected",
        ),
        (json!({"channel": "{{ nothing }}"}), "action_config.payload/channel", "unknown variable"),
    ];
    for (payload, place, part) in table {
        let (field, message) = refused("chat", payload.clone()).await;
        assert_eq!(field, place, "{payload}: {message}");
        assert!(message.contains(part), "{payload}: {message}");
    }
    assert!(refused("sms", json!({})).await.1.contains("existing kinds: \"chat\" and \"pager\"."));
    for (kind, payload) in [
        ("chat", json!({"channel": "{{ queue.name }}", "number": "{{ ticket.number }}"})),
        ("pager", json!(["anything", 1])),
    ] {
        let mut scrip = scrip(kind, payload);
        scrip["name"] = json!(format!("To {kind}"));
        add::<ScripDocument>(&desk, scrip).await.unwrap();
    }
}
