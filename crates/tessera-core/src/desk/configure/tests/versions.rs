//! Versions, restoring and disabling objects, and the check of a lifecycle, on a real database.

use super::*;
use crate::desk::Conditions;
use crate::models::secret::Secret;
use crate::plan::command::CreateTicket;

async fn restore<D: Versioned>(desk: &Tessera, word: &str, version: i32) -> Result<Saved<D>> {
    desk.restore(&desk.administrator()?, word, version, false).await
}

#[tokio::test]
async fn restoring_appends_an_equivalent_version_and_rewrites_nothing() {
    let desk = desk().await;
    let template = json!({ "name": "T", "subject_template": "s", "body_template": "one\ntwo\n", "queue": "General",
                           "headers": { "X-A": "1" } });
    add::<TemplateDocument>(&desk, template).await.unwrap();
    let patch = json!({ "body_template": "one\n2\n", "headers": null, "queue": null, "disabled": true });
    change::<TemplateDocument>(&desk, "T", patch).await.unwrap();
    let compared = desk.compare::<TemplateDocument>(&desk.administrator().unwrap(), "T", 1, 2).await.unwrap();
    let members: Vec<_> = compared.differences.iter().map(|one| one.member.as_str()).collect();
    assert_eq!(members, ["body_template", "disabled", "headers.X-A", "queue"]);
    assert_eq!(compared.differences[0].diff.as_deref(), Some("@@ -1,2 +1,2 @@\n one\n-two\n+2\n"));
    let back = restore::<TemplateDocument>(&desk, "T", 1).await.unwrap();
    assert_eq!(back.stored.version, Some(3));
    assert_eq!(back.stored.document.queue.as_deref(), Some("General"));
    let versions =
        desk.versions::<TemplateDocument>(&desk.administrator().unwrap(), "T", None, 10).await.unwrap().items;
    assert_eq!(versions.iter().map(|one| one.version).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(versions[0].document, versions[2].document);
    assert_eq!(
        desk.compare::<TemplateDocument>(&desk.administrator().unwrap(), "T", 3, 1)
            .await
            .unwrap()
            .differences,
        []
    );
    let same = restore::<TemplateDocument>(&desk, "T", 1).await.unwrap();
    assert_eq!((same.stored.version, version(&desk).await), (Some(3), 4), "it is already equivalent");
    let missing = restore::<TemplateDocument>(&desk, "T", 9).await.unwrap_err();
    assert_eq!(
        (missing.code(), missing.detail()),
        (Code::NotFound, "Version 9 of this template does not exist; existing versions: 1 to 3.")
    );
    for out_of_range in [0, -1, i32::MAX] {
        assert_eq!(
            desk.version::<TemplateDocument>(&desk.administrator().unwrap(), "T", out_of_range)
                .await
                .unwrap_err()
                .code(),
            Code::NotFound
        );
    }
}

#[tokio::test]
async fn a_version_that_names_missing_objects_is_rejected_with_its_fields() {
    let desk = desk().await;
    add::<QueueDocument>(&desk, json!({ "name": "Billing" })).await.unwrap();
    add::<CustomFieldDocument>(&desk, json!({ "name": "Note", "field_type": "Freeform" })).await.unwrap();
    let scrip = a_scrip(json!({
        "queue": "Billing", "condition_type": "OnCustomFieldChange", "condition_config": { "field": "Note" }
    }));
    add::<ScripDocument>(&desk, scrip).await.unwrap();
    let other = json!({ "queue": null, "condition_type": "OnCreate", "action_type": "SetPriority",
                        "action_config": { "value": "3" }, "template": null });
    change::<ScripDocument>(&desk, "Tell", other).await.unwrap();
    change::<QueueDocument>(&desk, "Billing", json!({ "name": "Money" })).await.unwrap();
    change::<CustomFieldDocument>(&desk, "Note", json!({ "name": "Memo" })).await.unwrap();
    let error = restore::<ScripDocument>(&desk, "Tell", 1).await.unwrap_err();
    assert_eq!(error.code(), Code::Invalid);
    assert!(
        error
            .detail()
            .starts_with("Version 1 of the scrip \"Tell\" is not valid in the current configuration")
    );
    let fields: Vec<_> = error.faults().iter().map(|one| one.field.as_str()).collect();
    assert_eq!(fields, ["queue", "condition_config.field"], "{error:?}");
    assert_eq!(
        desk.versions::<ScripDocument>(&desk.administrator().unwrap(), "Tell", None, 10)
            .await
            .unwrap()
            .items
            .len(),
        2
    );
    change::<QueueDocument>(&desk, "Money", json!({ "name": "Billing" })).await.unwrap();
    change::<CustomFieldDocument>(&desk, "Memo", json!({ "name": "Note" })).await.unwrap();
    let back = restore::<ScripDocument>(&desk, "Tell", 1).await.unwrap();
    assert_eq!((back.stored.version, back.stored.document.queue.as_deref()), (Some(3), Some("Billing")));
}

#[tokio::test]
async fn restoring_a_lifecycle_that_would_strand_tickets_is_rejected() {
    let desk = desk().await;
    add::<LifecycleDocument>(&desk, a_lifecycle()).await.unwrap();
    let mut more = a_lifecycle();
    more["definition"]["active"] = json!(["working", "watching", "waiting"]);
    more["definition"]["transitions"][""] = json!(["reported", "waiting"]);
    more["definition"]["transitions"]["waiting"] = json!(["working"]);
    change::<LifecycleDocument>(&desk, "incident", json!({ "definition": more["definition"] }))
        .await
        .unwrap();
    add::<QueueDocument>(&desk, json!({ "name": "Incidents", "lifecycle": "incident" })).await.unwrap();
    a_ticket(&desk, "Incidents", "waiting").await;
    let refused = conflict(restore::<LifecycleDocument>(&desk, "incident", 1).await, Code::InUse);
    assert!(refused.contains("1 ticket in \"waiting\""), "{refused}");
    let compared =
        desk.compare::<LifecycleDocument>(&desk.administrator().unwrap(), "incident", 1, 2).await.unwrap();
    let members: Vec<_> = compared.differences.iter().map(|one| one.member.as_str()).collect();
    assert_eq!(members, ["definition.active", "definition.transitions.", "definition.transitions.waiting"]);
}

async fn a_ticket(desk: &Tessera, queue: &str, status: &str) {
    let command = CreateTicket {
        queue: queue.to_owned(),
        subject: "x".to_owned(),
        status: Some(status.to_owned()),
        ..CreateTicket::default()
    };
    let caller = desk.administrator().unwrap();
    desk.create(&caller, command, &Conditions::default()).await.unwrap();
}

#[tokio::test]
async fn a_lifecycle_is_disabled_only_if_no_queue_uses_it_and_then_none_can() {
    let desk = desk().await;
    let refused = conflict(
        change::<LifecycleDocument>(&desk, "default", json!({ "disabled": true })).await,
        Code::InUse,
    );
    assert_eq!(
        refused,
        "The queues \"General\" use the lifecycle \"default\". Give them another lifecycle first."
    );
    conflict(force::<LifecycleDocument>(&desk, "default", json!({ "disabled": true })).await, Code::InUse);
    add::<LifecycleDocument>(&desk, a_lifecycle()).await.unwrap();
    change::<LifecycleDocument>(&desk, "incident", json!({ "disabled": true })).await.unwrap();
    let queue = json!({ "name": "Incidents", "lifecycle": "incident" });
    let (field, message) = fault(add::<QueueDocument>(&desk, queue.clone()).await);
    assert_eq!(field, "lifecycle");
    assert_eq!(message, "the lifecycle \"incident\" is disabled; enable it, or choose another");
    change::<LifecycleDocument>(&desk, "incident", json!({ "disabled": false })).await.unwrap();
    add::<QueueDocument>(&desk, queue).await.unwrap();
}

#[tokio::test]
async fn lists_are_filtered_by_state_and_name() {
    let desk = desk().await;
    add::<QueueDocument>(&desk, json!({ "name": "Old One", "disabled": true })).await.unwrap();
    let names = async |disabled, name: Option<&str>| {
        let wanted = Wanted { disabled, name: name.map(str::to_owned) };
        let page =
            desk.objects::<QueueDocument>(&desk.administrator().unwrap(), &wanted, None, 10).await.unwrap();
        page.items.into_iter().map(|one| one.document.name).collect::<Vec<_>>()
    };
    assert_eq!(names(None, None).await, ["General", "Old One"]);
    assert_eq!(names(Some(true), None).await, ["Old One"]);
    assert_eq!(names(Some(false), None).await, ["General"]);
    assert_eq!(names(None, Some("oLD")).await, ["Old One"]);
    assert!(names(Some(false), Some("old")).await.is_empty());
    assert!(names(None, Some("100%")).await.is_empty(), "no character is special");
    assert!(names(None, Some("a\0")).await.is_empty());
    change::<ScripDocument>(&desk, "On Resolve Notify Requestors", json!({ "disabled": true }))
        .await
        .unwrap();
    let off = Wanted { disabled: Some(true), name: None };
    assert_eq!(
        desk.objects::<ScripDocument>(&desk.administrator().unwrap(), &off, None, 10)
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    assert_eq!(
        desk.objects::<LifecycleDocument>(&desk.administrator().unwrap(), &off, None, 10)
            .await
            .unwrap()
            .items
            .len(),
        0
    );
    assert_eq!(
        desk.objects::<CustomFieldDocument>(&desk.administrator().unwrap(), &off, None, 10)
            .await
            .unwrap()
            .items
            .len(),
        0
    );
    assert_eq!(
        desk.objects::<TemplateDocument>(&desk.administrator().unwrap(), &off, None, 10)
            .await
            .unwrap()
            .items
            .len(),
        0
    );
    let admin = Wanted { disabled: Some(false), name: Some("ADM".to_owned()) };
    assert_eq!(
        desk.objects::<UserDocument>(&desk.administrator().unwrap(), &admin, None, 10)
            .await
            .unwrap()
            .items
            .len(),
        1
    );
}

#[tokio::test]
async fn a_secret_is_deleted_unless_an_enabled_scrip_names_it() {
    let desk = desk().await;
    let caller = desk.administrator().unwrap();
    desk.put_secret(
        &desk.administrator().unwrap(),
        "crm",
        &Secret::new("whsec_dGVzc2VyYS1kZW1vLXNpZ25pbmcta2V5LTAx"),
    )
    .await
    .unwrap();
    desk.put_secret(&desk.administrator().unwrap(), "key", &Secret::new("t0p")).await.unwrap();
    let webhook = json!({ "action_type": "Webhook", "template": null, "action_config": {
        "url": "https://crm.example/x", "secret": "crm", "headers": { "X-Key": { "secret": "key" } } } });
    add::<ScripDocument>(&desk, a_scrip(webhook)).await.unwrap();
    for name in ["crm", "key"] {
        let refused = conflict(desk.delete_secret(&caller, name, false).await, Code::InUse);
        assert!(
            refused.starts_with(&format!("The scrip \"Tell\" names the secret \"{name}\".")),
            "{refused}"
        );
    }
    desk.delete_secret(&caller, "key", true).await.unwrap();
    change::<ScripDocument>(&desk, "Tell", json!({ "disabled": true })).await.unwrap();
    desk.delete_secret(&caller, "crm", false).await.unwrap();
    for name in ["crm", "a\0"] {
        assert_eq!(desk.delete_secret(&caller, name, false).await.unwrap_err().code(), Code::NotFound);
    }
    assert!(desk.secret_names(&desk.administrator().unwrap(), None, 10).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn the_check_of_a_lifecycle_reports_faults_findings_and_stranded_tickets() {
    let desk = desk().await;
    let before = version(&desk).await;
    let broken = json!({ "initial": [], "active": ["a"], "inactive": ["a"], "transitions": { "": ["b"] } });
    let check = desk.check_lifecycle(&desk.administrator().unwrap(), None, None, broken).await.unwrap();
    assert!(!check.is_savable && check.replaces.is_none() && check.faults.len() > 1, "{check:?}");
    assert!(check.faults.iter().all(|fault| fault.field.starts_with("definition.")), "{check:?}");
    for unreadable in [json!(null), json!(7), json!({ "initial": "new" }), json!({})] {
        let check = desk
            .check_lifecycle(&desk.administrator().unwrap(), None, None, unreadable.clone())
            .await
            .unwrap();
        assert!(
            !check.is_savable && check.faults[0].field.starts_with("definition"),
            "{unreadable}: {check:?}"
        );
    }

    let definition = a_lifecycle()["definition"].clone();
    let fresh = desk
        .check_lifecycle(&desk.administrator().unwrap(), None, Some("incident"), definition.clone())
        .await
        .unwrap();
    assert!(fresh.is_savable && fresh.replaces.is_none(), "{fresh:?}");
    add::<LifecycleDocument>(&desk, a_lifecycle()).await.unwrap();
    add::<QueueDocument>(&desk, json!({ "name": "Incidents", "lifecycle": "incident" })).await.unwrap();
    let scrip = json!({ "name": "Watch", "queue": "Incidents", "condition_type": "OnStatusChange",
        "condition_config": { "to": "watching" }, "action_type": "SetPriority", "action_config": { "value": "1" } });
    add::<ScripDocument>(&desk, scrip).await.unwrap();
    a_ticket(&desk, "Incidents", "reported").await;

    let smaller = json!({ "initial": ["new"], "active": ["working"], "inactive": ["closed"],
        "transitions": { "": ["new"], "new": ["working"], "working": ["closed"] } });
    let check = desk
        .check_lifecycle(&desk.administrator().unwrap(), None, Some("Incident"), smaller.clone())
        .await
        .unwrap();
    assert_eq!(check.replaces.as_ref().map(|one| (one.name.as_str(), one.version)), Some(("incident", 1)));
    let stranded = &check.stranded;
    assert_eq!(
        stranded
            .tickets
            .iter()
            .map(|one| (one.queue.as_str(), one.status.as_str(), one.tickets))
            .collect::<Vec<_>>(),
        [("Incidents", "reported", 1)]
    );
    assert_eq!(
        stranded.scrips.iter().map(|one| (one.scrip.as_str(), one.status.as_str())).collect::<Vec<_>>(),
        [("Watch", "watching")]
    );
    assert!(!check.is_savable && check.faults.is_empty());
    assert!(check.findings.iter().any(|finding| finding.code == "tickets_stranded"), "{check:?}");
    let word = check.replaces.unwrap().id.to_string();
    let by_id =
        desk.check_lifecycle(&desk.administrator().unwrap(), Some(&word), None, definition).await.unwrap();
    assert!(by_id.is_savable && by_id.tickets.len() == 1, "{by_id:?}");
    let missing = desk
        .check_lifecycle(&desk.administrator().unwrap(), Some("Nope"), None, smaller.clone())
        .await
        .unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    // Saving gives the same result as the check, which wrote nothing.
    conflict(
        change::<LifecycleDocument>(&desk, "incident", json!({ "definition": smaller })).await,
        Code::InUse,
    );
    assert_eq!(version(&desk).await, before + 3);
}
