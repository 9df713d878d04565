//! Queries of scrips: their names are resolved when the scrip is saved, and named objects cannot be removed.

use super::*;

fn asking(query: &str) -> Value {
    a_scrip(json!({ "condition_config": { "query": query } }))
}

async fn with_severity() -> Desk {
    let desk = desk().await;
    let field = json!({ "name": "Severity", "field_type": "SelectSingle", "values": ["low", "high"] });
    add::<CustomFieldDocument>(&desk, field).await.unwrap();
    desk
}

/// Returns the error of the query of the scrip Tell, if its names cannot be resolved.
fn resolved(desk: &Tessera) -> Result<(), String> {
    let catalog = desk.catalog();
    let query = catalog.query_of(catalog.scrips.find("Tell").unwrap().id).unwrap();
    query.as_ref().map(|_| ()).map_err(ToString::to_string)
}

#[tokio::test]
async fn a_query_is_resolved_when_its_scrip_is_saved_or_rejected_with_its_position() {
    let desk = with_severity().await;
    for (query, place, message, hint) in [
        (
            "Priority > 5\nAND Sttus = open",
            (2, 5, (17, 22)),
            "there is no field Sttus",
            "did you mean `Status`?",
        ),
        (
            "CF.{Severty} = 'é'",
            (1, 1, (0, 12)),
            "there is no custom field \"Severty\"",
            "did you mean `CF.{Severity}`?",
        ),
        ("Queue = Genral", (1, 9, (8, 14)), "there is no queue \"Genral\"", "did you mean `General`?"),
        (
            "Status CHANGED TO oben",
            (1, 19, (18, 22)),
            "no lifecycle has the status \"oben\"",
            "did you mean `open`?",
        ),
        ("Owner CHANGED TO admn", (1, 18, (17, 21)), "there is no user \"admn\"", "did you mean `admin`?"),
        (
            "Subject = 'é' AND 'a b' = 1",
            (1, 19, (18, 23)),
            "expected a field, but this text is not a field",
            "a test begins",
        ),
        (
            "Updated > '1 day ago'",
            (1, 1, (0, 7)),
            "Updated searches the ticket's history, which is not available in conditions",
            "use Actor",
        ),
        (
            "Subject",
            (1, 8, (7, 7)),
            "expected an operator after Subject",
            "a test is a field, an operator and a value",
        ),
    ] {
        let error = add::<ScripDocument>(&desk, asking(query)).await.unwrap_err();
        let [fault] = error.faults() else { panic!("{query}: {error:?}") };
        assert_eq!(
            (error.code(), fault.field.as_str()),
            (Code::Invalid, "condition_config.query"),
            "{query}"
        );
        let told = (fault.line.unwrap(), fault.column.unwrap(), fault.span.unwrap());
        assert_eq!((told, fault.message.as_str()), (place, message), "{query}");
        assert!(fault.hint.as_deref().unwrap().starts_with(hint), "{query}: {fault:?}");
        assert!(error.detail().contains(hint), "{}", error.detail());
    }
    assert_eq!(count(&desk, "SELECT count(*) FROM scrips").await, 9);

    add::<ScripDocument>(&desk, asking("CF.Severity = high")).await.unwrap();
    assert_eq!(resolved(&desk), Ok(()));
    let patch = json!({ "condition_config": { "query": "CF.Weight = 1" } });
    let told = change::<ScripDocument>(&desk, "Tell", patch.clone()).await.unwrap_err();
    assert_eq!(told.faults()[0].span, Some((0, 9)));
    let mut disabled = members(patch);
    disabled.insert("disabled".to_owned(), json!(true));
    let saved = change::<ScripDocument>(&desk, "Tell", Value::Object(disabled)).await.unwrap();
    assert_eq!(saved.warnings.len(), 1);
    let warning = &saved.warnings[0];
    assert!(
        warning.starts_with("condition_config.query: there is no custom field \"Weight\"; "),
        "{warning}"
    );
    assert_eq!(
        fault(change::<ScripDocument>(&desk, "Tell", json!({ "disabled": false })).await).0,
        "condition_config.query"
    );
}

#[tokio::test]
async fn an_unknown_person_causes_a_warning() {
    let desk = desk().await;
    add::<UserDocument>(&desk, json!({ "username": "eve", "email": "eve@example.net" })).await.unwrap();
    let query = "Actor = eve OR Creator = evee OR Requestor = 'x@example.net' OR Owner = admin";
    let saved = add::<ScripDocument>(&desk, asking(query)).await.unwrap();
    assert_eq!(
        saved.warnings,
        ["User \"evee\" does not exist; tests on this user match nothing until the user exists."]
    );
}

#[tokio::test]
async fn what_a_query_names_is_not_removed_unless_forced() {
    let desk = with_severity().await;
    add::<LifecycleDocument>(&desk, a_lifecycle()).await.unwrap();
    add::<QueueDocument>(&desk, json!({ "name": "Billing" })).await.unwrap();
    for (name, privileged) in [("ann", true), ("eve", false)] {
        let user =
            json!({ "username": name, "email": format!("{name}@desk.example"), "privileged": privileged });
        add::<UserDocument>(&desk, user).await.unwrap();
    }
    let query = "CF.Severity = high OR Queue = Billing OR Lifecycle = incident OR Status CHANGED TO watching \
        OR Owner = ann OR Requestor = eve";
    add::<ScripDocument>(&desk, asking(query)).await.unwrap();
    let told = |refused: String, what: &str| {
        assert!(refused.starts_with(&format!("The scrip \"Tell\" names the {what}.")), "{what}: {refused}");
    };
    for patch in [json!({ "name": "Weight" }), json!({ "disabled": true })] {
        let refused = change::<CustomFieldDocument>(&desk, "Severity", patch).await;
        told(conflict(refused, Code::InUse), "custom field \"Severity\"");
    }
    for patch in [json!({ "name": "Money" }), json!({ "disabled": true })] {
        told(
            conflict(change::<QueueDocument>(&desk, "Billing", patch).await, Code::InUse),
            "queue \"Billing\"",
        );
    }
    for patch in [json!({ "username": "anna" }), json!({ "disabled": true }), json!({ "privileged": false })]
    {
        told(conflict(change::<UserDocument>(&desk, "ann", patch).await, Code::InUse), "user \"ann\"");
    }
    for patch in [json!({ "username": "eva" }), json!({ "disabled": true })] {
        told(conflict(change::<UserDocument>(&desk, "eve", patch).await, Code::InUse), "user \"eve\"");
    }
    let renamed = change::<LifecycleDocument>(&desk, "incident", json!({ "name": "fault" })).await;
    told(conflict(renamed, Code::InUse), "lifecycle \"incident\"");
    let mut fewer = a_lifecycle()["definition"].clone();
    fewer["active"] = json!(["working"]);
    fewer["transitions"]["working"] = json!(["closed"]);
    fewer["transitions"].as_object_mut().unwrap().remove("watching");
    let fewer = json!({ "definition": fewer });
    let refused = change::<LifecycleDocument>(&desk, "incident", fewer.clone()).await;
    told(conflict(refused, Code::InUse), "status \"watching\"");
    // Another lifecycle has the status as well, so the query stays valid, whatever the scrip's queues have.
    let mut twin = a_lifecycle();
    twin["name"] = json!("twin");
    add::<LifecycleDocument>(&desk, twin).await.unwrap();
    change::<LifecycleDocument>(&desk, "incident", fewer).await.unwrap();
    // Objects that no query names can change freely. A forced change leaves an error in the loaded configuration.
    change::<QueueDocument>(&desk, "General", json!({ "description": "ours" })).await.unwrap();
    assert_eq!(resolved(&desk), Ok(()));
    let forced = force::<QueueDocument>(&desk, "Billing", json!({ "name": "Money" })).await.unwrap();
    assert_eq!(forced.warnings, ["The scrip \"Tell\" names the queue \"Billing\"."]);
    let why = resolved(&desk).unwrap_err();
    assert!(why.starts_with("condition_config.query: there is no queue \"Billing\""), "{why}");
    change::<QueueDocument>(&desk, "Money", json!({ "name": "Billing" })).await.unwrap();
    assert_eq!(resolved(&desk), Ok(()));
}

#[tokio::test]
async fn a_field_that_a_query_wants_of_a_queue_stays_with_it_and_an_owner_at_the_address() {
    let desk = with_severity().await;
    add::<QueueDocument>(&desk, json!({ "name": "Billing", "custom_fields": ["Severity"] })).await.unwrap();
    for (name, privileged) in [("ann", true), ("eve", false)] {
        let user =
            json!({ "username": name, "email": format!("{name}@desk.example"), "privileged": privileged });
        add::<UserDocument>(&desk, user).await.unwrap();
    }
    let query =
        "CF.billing.{severity} = high OR Owner = 'Ann@desk.example' OR Requestor = 'eve@desk.example'";
    add::<ScripDocument>(&desk, asking(query)).await.unwrap();

    let refused = conflict(
        change::<QueueDocument>(&desk, "Billing", json!({ "custom_fields": [] })).await,
        Code::InUse,
    );
    assert!(refused.starts_with("The scrip \"Tell\" names \"CF.Billing.{Severity}\"."), "{refused}");
    for patch in
        [json!({ "email": "ann@else.example" }), json!({ "email": null }), json!({ "privileged": false })]
    {
        let refused = conflict(change::<UserDocument>(&desk, "ann", patch).await, Code::InUse);
        assert!(refused.starts_with("The scrip \"Tell\" names the user \"ann\"."), "{refused}");
    }
    // Changes that keep the names valid are allowed.
    let severity = json!({ "custom_fields": ["severity"], "description": "ours" });
    change::<QueueDocument>(&desk, "Billing", severity).await.unwrap();
    change::<UserDocument>(&desk, "ann", json!({ "username": "anna" })).await.unwrap();
    change::<UserDocument>(&desk, "eve", json!({ "email": "eve@else.example" })).await.unwrap();
    assert_eq!(resolved(&desk), Ok(()));

    force::<QueueDocument>(&desk, "Billing", json!({ "custom_fields": [] })).await.unwrap();
    let why = resolved(&desk).unwrap_err();
    assert!(why.contains("the queue \"Billing\" has no custom field \"Severity\""), "{why}");
}
