//! The default configuration, and queues, templates, fields, users and secrets on their own.

use super::*;
use crate::models::secret::Secret;

#[tokio::test]
async fn an_empty_database_is_seeded_once_and_never_again() {
    let db = TestDb::new().await;
    let (one, other) = tokio::join!(node(&db), node(&db));
    assert_eq!((version(&one).await, other.catalog().version), (1, 1));
    let catalog = one.catalog();
    let names: Vec<_> = {
        let mut scrips: Vec<_> = catalog.scrips.iter().collect();
        scrips.sort_by_key(|scrip| scrip.attachments[0].sort_order);
        scrips.iter().map(|scrip| scrip.name.clone()).collect()
    };
    assert_eq!(names.len(), 9);
    assert_eq!(names[0], "On Comment Notify AdminCcs as Comment");
    assert_eq!(names[8], "On Resolve Notify Requestors");
    assert_eq!((catalog.templates.len(), catalog.queues.len(), catalog.lifecycles.len()), (8, 1, 1));
    assert_eq!(one.administrator().unwrap().user.username, "admin");
    assert_eq!(count(&one, "SELECT count(*) FROM scrip_versions").await, 9);

    change::<QueueDocument>(&one, "General", json!({ "description": "ours" })).await.unwrap();
    let again = node(&db).await;
    assert_eq!(version(&again).await, 2);
    assert_eq!(
        again
            .object::<QueueDocument>(&again.administrator().unwrap(), "general")
            .await
            .unwrap()
            .document
            .description
            .unwrap(),
        "ours"
    );
}

#[tokio::test]
async fn responses_match_requests_and_each_change_increments_the_version() {
    let desk = desk().await;
    add::<UserDocument>(&desk, json!({ "username": "ann", "email": "ann@desk.example", "privileged": true }))
        .await
        .unwrap();
    add::<CustomFieldDocument>(
        &desk,
        json!({ "name": "Severity", "field_type": "SelectSingle", "values": ["low", "high"] }),
    )
    .await
    .unwrap();
    let queue = json!({
        "name": "Support", "description": "Faults", "lifecycle": "default", "correspond_address": "support@desk.example",
        "cc": ["eve@example.net"], "admin_cc": ["ANN@desk.example"], "custom_fields": ["severity"]
    });
    let saved = add::<QueueDocument>(&desk, queue).await.unwrap();
    let shown = serde_json::to_value(&saved).unwrap();
    assert_eq!(shown["admin_cc"], json!(["ann"]), "the address of a user stands for the user");
    assert_eq!(shown["cc"], json!(["eve@example.net"]));
    assert_eq!(shown["custom_fields"], json!(["Severity"]));
    assert_eq!((&shown["disabled"], shown.get("warnings")), (&json!(false), None));
    assert_eq!(shown["id"], json!(saved.stored.id));
    assert_eq!(version(&desk).await, 4);
    assert_eq!(desk.catalog().version, 4);
    assert_eq!(
        desk.object::<QueueDocument>(&desk.administrator().unwrap(), &saved.stored.id.to_string())
            .await
            .unwrap(),
        saved.stored
    );

    let same = change::<QueueDocument>(&desk, "support", json!({ "description": "Faults" })).await.unwrap();
    assert_eq!(
        (same.stored, version(&desk).await),
        (saved.stored, 4),
        "nothing changed, so nothing is written"
    );
    let cleared =
        change::<QueueDocument>(&desk, "support", json!({ "description": null, "cc": null })).await.unwrap();
    assert_eq!((cleared.stored.document.description, cleared.stored.document.cc), (None, vec![]));
    assert_eq!(cleared.stored.document.admin_cc, ["ann"]);
}

#[tokio::test]
async fn lists_go_page_by_page() {
    let desk = desk().await;
    let first = desk
        .objects::<TemplateDocument>(&desk.administrator().unwrap(), &Wanted::default(), None, 5)
        .await
        .unwrap();
    let rest = desk
        .objects::<TemplateDocument>(
            &desk.administrator().unwrap(),
            &Wanted::default(),
            first.next_cursor.as_deref(),
            5,
        )
        .await
        .unwrap();
    assert_eq!((first.items.len(), rest.items.len(), rest.next_cursor), (5, 3, None));
    assert_eq!(first.items[0].document.name, "Blank");
    assert_eq!(rest.items[2].document.name, "Resolved");
    let refused = desk
        .objects::<TemplateDocument>(&desk.administrator().unwrap(), &Wanted::default(), Some("nonsense"), 5)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::MalformedCursor);
    assert_eq!(
        desk.object::<TemplateDocument>(&desk.administrator().unwrap(), "Nope").await.unwrap_err().detail(),
        "Template \"Nope\" does not exist."
    );
}

#[tokio::test]
async fn unknown_missing_and_invalid_members_are_named() {
    let desk = desk().await;
    let (field, message) = fault(add::<QueueDocument>(&desk, json!({ "name": "A", "colour": "red" })).await);
    assert!(
        field == "colour" && message.starts_with("unknown field `colour`, expected one of"),
        "{field}: {message}"
    );
    assert_eq!(fault(add::<QueueDocument>(&desk, json!({ "description": "x" })).await).0, "name");
    let (field, message) = fault(add::<QueueDocument>(&desk, json!({ "name": "A", "cc": [7] })).await);
    assert_eq!((field.as_str(), message.contains("expected a string")), ("cc[0]", true), "{message}");
    let (field, _) = fault(change::<QueueDocument>(&desk, "General", json!({ "colour": "red" })).await);
    assert_eq!(field, "colour");
    assert_eq!(version(&desk).await, 1);
}

#[tokio::test]
async fn the_character_that_postgresql_cannot_store_is_rejected_everywhere() {
    let desk = desk().await;
    let scrip = a_scrip(json!({
        "description": "a\0", "action_type": "Webhook",
        "action_config": { "url": "https://crm.example/", "headers": { "X-A": "b\0" } }
    }));
    let error = add::<ScripDocument>(&desk, scrip).await.unwrap_err();
    let fields: Vec<_> = error.faults().iter().map(|one| one.field.as_str()).collect();
    assert_eq!((error.code(), fields.len()), (Code::Invalid, 2), "{fields:?}");
    assert!(fields.contains(&"description") && fields.contains(&"action_config.headers.X-A"), "{fields:?}");
    let missing = desk.object::<QueueDocument>(&desk.administrator().unwrap(), "a\0").await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(
        fault(desk.put_secret(&desk.administrator().unwrap(), "a\0", &Secret::new("x")).await).0,
        "name"
    );
}

#[tokio::test]
async fn all_faults_of_a_queue_are_reported_together() {
    let desk = desk().await;
    let queue = json!({
        "name": "A\u{200b}b", "lifecycle": "nope", "correspond_address": "here", "cc": ["nobody here", "00000000-0000-7000-8000-00000000dead"], "custom_fields": ["Nope"]
    });
    let error = add::<QueueDocument>(&desk, queue).await.unwrap_err();
    let reported: Vec<_> =
        error.faults().iter().map(|one| format!("{}: {}", one.field, one.message)).collect();
    assert_eq!(
        reported,
        [
            "name: contains U+200B, which cannot be seen; remove it",
            "correspond_address: \"here\" is not a mail address",
            "lifecycle: there is no lifecycle \"nope\"; existing lifecycles: \"default\"",
            "custom_fields[0]: there is no custom field \"Nope\"; existing custom fields: none",
            "cc[0]: \"nobody here\" is neither a username, the id of a user, nor a mail address",
            "cc[1]: \"00000000-0000-7000-8000-00000000dead\" is neither a username, the id of a user, nor a mail address",
        ]
    );
    assert_eq!(count(&desk, "SELECT count(*) FROM queues").await, 1);
}

#[tokio::test]
async fn people_of_a_queue_are_named_by_username_id_or_address_and_each_once() {
    let desk = desk().await;
    let ann =
        add::<UserDocument>(&desk, json!({ "username": "ann", "email": "ann@desk.example" })).await.unwrap();
    for word in [ann.stored.id.to_string().as_str(), "Ann", "ann@desk.example", "\"Ann\" <ann@desk.example>"]
    {
        let queue = change::<QueueDocument>(&desk, "General", json!({ "cc": [word] })).await.unwrap();
        assert_eq!(queue.stored.document.cc, ["ann"], "{word}");
    }
    let named = json!({ "cc": ["Foo Bar <foo@example.com>", "<foo@example.com>"] });
    let twice = change::<QueueDocument>(&desk, "General", named).await.unwrap_err();
    assert!(twice.faults()[0].message.contains("occurs twice"), "{twice:?}");
}

#[tokio::test]
async fn a_name_is_stored_composed_without_blanks_around_it_and_found_in_any_form() {
    let desk = desk().await;
    let caller = desk.administrator().unwrap();
    let made = add::<QueueDocument>(&desk, json!({ "name": "\u{a0} Bu\u{308}ro\n" })).await.unwrap();
    assert_eq!(made.stored.document.name, "B\u{fc}ro");
    for word in ["B\u{fc}ro", "BU\u{308}RO", " b\u{fc}ro "] {
        assert_eq!(desk.object::<QueueDocument>(&caller, word).await.unwrap().id, made.stored.id, "{word:?}");
        conflict(add::<QueueDocument>(&desk, json!({ "name": word })).await, Code::NameTaken);
    }
    let user = json!({ "username": " ju\u{308}rgen", "email": " j@example.net ", "name": " J\u{3000}" });
    let user = add::<UserDocument>(&desk, user).await.unwrap().stored.document;
    assert_eq!(
        (user.username.as_str(), user.email.as_deref(), user.name.as_deref()),
        ("j\u{fc}rgen", Some("j@example.net"), Some("J"))
    );
    let field = json!({ "name": "Size ", "field_type": "SelectSingle", "values": [" S ", "M"] });
    assert_eq!(add::<CustomFieldDocument>(&desk, field).await.unwrap().stored.document.values, ["S", "M"]);
    // An older version stored names as they were sent.
    sqlx::query("UPDATE queues SET name = $1 WHERE id = $2")
        .bind("Bu\u{308}ro")
        .bind(made.stored.id)
        .execute(&desk.pools.write)
        .await
        .unwrap();
    assert_eq!(desk.object::<QueueDocument>(&caller, "Bu\u{308}ro").await.unwrap().id, made.stored.id);
    for hidden in ["\u{200b}", "an\u{200d}n", "ann\u{202e}", "\u{feff}\u{2060}"] {
        let faults = add::<UserDocument>(&desk, json!({ "username": hidden })).await.unwrap_err();
        assert_eq!(faults.faults()[0].field, "username", "{hidden:?}");
    }
}

#[tokio::test]
async fn names_are_unique_whatever_their_case_and_limits_hold() {
    let desk = desk().await;
    let taken = conflict(add::<QueueDocument>(&desk, json!({ "name": "GENERAL" })).await, Code::NameTaken);
    assert_eq!(taken, "A queue GENERAL already exists; names are compared without case.");
    let scrip = a_scrip(json!({ "name": "on resolve notify requestors" }));
    conflict(add::<ScripDocument>(&desk, scrip).await, Code::NameTaken);
    let template = json!({ "name": "Blank", "body_template": "x" });
    conflict(add::<TemplateDocument>(&desk, template.clone()).await, Code::NameTaken);
    let mut in_queue = template;
    in_queue["queue"] = json!("General");
    add::<TemplateDocument>(&desk, in_queue).await.unwrap();
    add::<UserDocument>(&desk, json!({ "username": "ann", "email": "a@b.example" })).await.unwrap();
    let twin = add::<UserDocument>(&desk, json!({ "username": "bob", "email": "A@B.example" })).await;
    assert_eq!(conflict(twin, Code::NameTaken), "A user with this mail address already exists.");
    conflict(add::<UserDocument>(&desk, json!({ "username": "Ann" })).await, Code::NameTaken);
    let mut lifecycle = a_lifecycle();
    lifecycle["name"] = json!("Default");
    conflict(add::<LifecycleDocument>(&desk, lifecycle).await, Code::NameTaken);

    sqlx::query(
        "INSERT INTO queues (name, lifecycle_id, changed_in) SELECT 'q' || n, l.id, 1 FROM lifecycles l, generate_series(1, 499) n",
    )
    .execute(&desk.pools.write)
    .await
    .unwrap();
    let full = conflict(add::<QueueDocument>(&desk, json!({ "name": "One more" })).await, Code::LimitReached);
    assert!(full.starts_with("There are already 500 queues, and the maximum is 500."), "{full}");
}

#[tokio::test]
async fn a_queue_that_a_scrip_names_is_not_taken_away_unless_forced() {
    let desk = desk().await;
    add::<QueueDocument>(&desk, json!({ "name": "Billing" })).await.unwrap();
    let scrip = json!({ "name": "Move", "condition_type": "OnResolve", "action_type": "SetQueue", "action_config": { "value": "billing" } });
    add::<ScripDocument>(&desk, scrip).await.unwrap();
    let refused =
        conflict(change::<QueueDocument>(&desk, "Billing", json!({ "disabled": true })).await, Code::InUse);
    assert_eq!(
        refused,
        "The scrip \"Move\" names the queue \"Billing\". Change that first, or add ?force=true to make this change anyway."
    );
    conflict(change::<QueueDocument>(&desk, "Billing", json!({ "name": "Money" })).await, Code::InUse);
    let forced = force::<QueueDocument>(&desk, "Billing", json!({ "name": "Money" })).await.unwrap();
    assert_eq!(forced.warnings, ["The scrip \"Move\" names the queue \"Billing\"."]);
}

#[tokio::test]
async fn a_template_is_refused_with_line_and_column_and_warns_of_a_field_that_no_queue_has() {
    let desk = desk().await;
    let broken =
        json!({ "name": "T", "subject_template": "{{ tickt.subject }}", "body_template": "one\n{% if %}" });
    let error = add::<TemplateDocument>(&desk, broken).await.unwrap_err();
    let places: Vec<_> =
        error.faults().iter().map(|one| (one.field.as_str(), one.line, one.column)).collect();
    assert_eq!(places[0], ("subject_template", Some(1), Some(4)), "{error:?}");
    assert!(
        places.iter().any(|(field, line, _)| *field == "body_template" && *line == Some(2)),
        "{places:?}"
    );
    let header = json!({ "name": "T", "body_template": "x", "headers": { "From": "a@b.example" } });
    assert_eq!(fault(add::<TemplateDocument>(&desk, header).await).0, "headers.From");
    let unknown = json!({ "name": "T", "body_template": "{{ ticket.cf[\"Severity\"] }}" });
    let saved = add::<TemplateDocument>(&desk, unknown).await.unwrap();
    assert_eq!(saved.warnings, ["No queue has the custom field \"Severity\"; scrips that use it fail."]);
    assert_eq!(saved.stored.version, Some(1));
    let next = change::<TemplateDocument>(&desk, "T", json!({ "body_template": "plain" })).await.unwrap();
    assert_eq!((next.stored.version, next.warnings.len()), (Some(2), 0));
    assert_eq!(count(&desk, "SELECT count(*) FROM template_versions WHERE name = 'T'").await, 2);
}

#[tokio::test]
async fn a_template_that_scrips_name_stays_unless_another_of_its_name_takes_over() {
    let desk = desk().await;
    let refused =
        conflict(change::<TemplateDocument>(&desk, "Resolved", json!({ "name": "Done" })).await, Code::InUse);
    assert_eq!(
        refused,
        "The scrip \"On Resolve Notify Requestors\" names the template \"Resolved\". Change that first, or add ?force=true to make this change anyway."
    );
    conflict(change::<TemplateDocument>(&desk, "Resolved", json!({ "disabled": true })).await, Code::InUse);
    let own = json!({ "name": "Resolved", "queue": "General", "body_template": "ours" });
    let own = add::<TemplateDocument>(&desk, own).await.unwrap().stored.id.to_string();
    change::<TemplateDocument>(&desk, &own, json!({ "disabled": true })).await.unwrap();
    change::<TemplateDocument>(&desk, "Status Change", json!({ "name": "Status" })).await.unwrap();
    force::<TemplateDocument>(&desk, "Resolved", json!({ "disabled": true })).await.unwrap();
}

#[tokio::test]
async fn a_custom_field_is_defined_well_and_not_taken_from_scrips_and_templates() {
    let desk = desk().await;
    let empty = json!({ "name": "Severity", "field_type": "SelectSingle" });
    assert_eq!(fault(add::<CustomFieldDocument>(&desk, empty).await).0, "values");
    let field = json!({ "name": "Severity", "field_type": "SelectSingle", "values": ["low", "high"] });
    let saved = add::<CustomFieldDocument>(&desk, field).await.unwrap();
    assert_eq!(saved.stored.document.max_values, Some(1));
    let multi = change::<CustomFieldDocument>(&desk, "severity", json!({ "field_type": "SelectMulti" }))
        .await
        .unwrap();
    assert_eq!((multi.stored.document.max_values, multi.stored.document.values.len()), (Some(0), 2));
    let scrip = json!({ "name": "Note", "condition_type": "OnCustomFieldChange", "condition_config": { "field": "severity" }, "action_type": "SetPriority", "action_config": { "value": "3" } });
    add::<ScripDocument>(&desk, scrip).await.unwrap();
    let refused = conflict(
        change::<CustomFieldDocument>(&desk, "Severity", json!({ "name": "Weight" })).await,
        Code::InUse,
    );
    assert!(refused.starts_with("The scrip \"Note\" names the custom field \"Severity\"."), "{refused}");
    change::<ScripDocument>(&desk, "Note", json!({ "disabled": true })).await.unwrap();
    let template = json!({ "name": "T", "body_template": "{{ ticket.cf.Severity }}" });
    add::<TemplateDocument>(&desk, template).await.unwrap();
    let refused = conflict(
        change::<CustomFieldDocument>(&desk, "Severity", json!({ "disabled": true })).await,
        Code::InUse,
    );
    assert!(refused.starts_with("The template \"T\" names the custom field \"Severity\"."), "{refused}");
    let forced = force::<CustomFieldDocument>(&desk, "Severity", json!({ "name": "Weight" })).await.unwrap();
    assert_eq!((forced.stored.document.name.as_str(), forced.warnings.len()), ("Weight", 1));
}

#[tokio::test]
async fn only_privileged_users_are_configuration_and_built_in_users_are_protected() {
    let desk = desk().await;
    add::<UserDocument>(&desk, json!({ "username": "eve", "email": "eve@example.net" })).await.unwrap();
    change::<UserDocument>(&desk, "eve", json!({ "name": "Eve" })).await.unwrap();
    assert_eq!(version(&desk).await, 1, "rule 12");
    change::<UserDocument>(&desk, "eve", json!({ "privileged": true })).await.unwrap();
    assert_eq!(version(&desk).await, 2);
    assert!(desk.catalog().agent("eve@example.net").is_some());
    let scrip = json!({ "name": "Give", "condition_type": "OnCreate", "action_type": "SetOwner", "action_config": { "value": "eve" } });
    add::<ScripDocument>(&desk, scrip).await.unwrap();
    conflict(change::<UserDocument>(&desk, "eve", json!({ "privileged": false })).await, Code::InUse);
    conflict(change::<UserDocument>(&desk, "eve", json!({ "username": "eva" })).await, Code::InUse);
    force::<UserDocument>(&desk, "eve", json!({ "privileged": false })).await.unwrap();
    assert!(desk.catalog().agent("eve").is_none());

    let (field, message) = fault(change::<UserDocument>(&desk, "admin", json!({ "username": "root" })).await);
    assert_eq!(
        (field.as_str(), message.as_str()),
        ("username", "admin is the administrator and cannot be renamed")
    );
    assert_eq!(
        fault(change::<UserDocument>(&desk, "admin", json!({ "disabled": true })).await).0,
        "disabled"
    );
    assert_eq!(
        fault(change::<UserDocument>(&desk, "admin", json!({ "privileged": false })).await).0,
        "privileged"
    );
    assert_eq!(
        fault(change::<UserDocument>(&desk, "tessera", json!({ "disabled": true })).await).0,
        "disabled"
    );
    change::<UserDocument>(&desk, "admin", json!({ "email": "admin@desk.example" })).await.unwrap();
    assert_eq!(fault(add::<UserDocument>(&desk, json!({ "username": "Nobody" })).await).0, "username");
    let wrong = json!({ "username": "x", "email": "x@y@z" });
    assert_eq!(
        fault(add::<UserDocument>(&desk, wrong).await),
        ("email".into(), "\"x@y@z\" is not a mail address".into())
    );
}

#[tokio::test]
async fn a_secret_is_written_and_listed_and_never_shown() {
    let desk = desk().await;
    let signing = Secret::new("whsec_dGVzc2VyYS1kZW1vLXNpZ25pbmcta2V5LTAx");
    assert!(desk.put_secret(&desk.administrator().unwrap(), "crm", &signing).await.unwrap());
    assert!(
        !desk.put_secret(&desk.administrator().unwrap(), "crm", &signing).await.unwrap(),
        "storing it again does not create it"
    );
    let (field, message) =
        fault(desk.put_secret(&desk.administrator().unwrap(), "other", &Secret::new("whsec_short")).await);
    assert!(field == "value" && message.contains("whsec_") && !message.contains("short"), "{message}");
    assert_eq!(
        fault(desk.put_secret(&desk.administrator().unwrap(), "other", &Secret::new("a\nb")).await).0,
        "value"
    );
    assert_eq!(fault(desk.put_secret(&desk.administrator().unwrap(), "", &Secret::new("x")).await).0, "name");
    desk.put_secret(&desk.administrator().unwrap(), "api", &Secret::new("t0p")).await.unwrap();
    let names = desk.secret_names(&desk.administrator().unwrap(), None, 1).await.unwrap();
    assert_eq!(
        (names.items.as_slice(), names.next_cursor.as_deref()),
        (&["api".to_owned()][..], Some("api"))
    );
    assert_eq!(
        desk.secret_names(&desk.administrator().unwrap(), Some("api"), 1).await.unwrap().items,
        ["crm"]
    );
}
