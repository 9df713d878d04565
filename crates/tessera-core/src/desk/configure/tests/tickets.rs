//! Changes of the configuration that affect tickets: no ticket is stranded, and no class is stale.

use super::*;
use crate::db::tickets::TicketRef;
use crate::db::{check, plans};
use crate::desk::{Conditions, Outcome};
use crate::plan::command::{CreateTicket, FieldChange, UpdateTicket};

async fn make(desk: &Tessera, queue: &str) -> TicketRef {
    let command =
        CreateTicket { queue: queue.to_owned(), subject: "Printer".to_owned(), ..CreateTicket::default() };
    let caller = desk.administrator().unwrap();
    let made = desk.create(&caller, command, &Conditions::default()).await.unwrap();
    TicketRef::Number(made.committed().summary.ticket.number.unwrap())
}

async fn update(desk: &Tessera, ticket: TicketRef, command: UpdateTicket) -> Result<Outcome> {
    desk.update(&desk.administrator()?, ticket, command, &Conditions::default()).await
}

fn to(status: &str) -> UpdateTicket {
    UpdateTicket { status: Some(status.to_owned()), ..UpdateTicket::default() }
}

fn priority(priority: i32) -> UpdateTicket {
    UpdateTicket { priority: Some(priority), ..UpdateTicket::default() }
}

async fn status_of(desk: &Tessera, ticket: TicketRef) -> (String, String, i64) {
    let shown =
        desk.preview_update(&desk.administrator().unwrap(), ticket, UpdateTicket::default()).await.unwrap();
    let ticket = shown.plan.ticket;
    (ticket.status, ticket.status_class.as_str().to_owned(), ticket.version)
}

async fn assert_clean(desk: &Tessera) {
    let report = check::check(&desk.pools.write).await.unwrap();
    assert!(report.tickets > 0 && report.violations.is_empty(), "{report:#?}");
}

async fn incidents(desk: &Tessera) {
    add::<LifecycleDocument>(desk, a_lifecycle()).await.unwrap();
    add::<QueueDocument>(desk, json!({ "name": "Incidents", "lifecycle": "incident" })).await.unwrap();
}

/// The lifecycle with `watching` in another list, or without it.
fn edited(watching_in: Option<&str>) -> Value {
    let mut definition = a_lifecycle()["definition"].clone();
    definition["active"] = json!(["working"]);
    match watching_in {
        Some(class) => definition[class].as_array_mut().unwrap().push(json!("watching")),
        None => {
            definition["transitions"]["working"] = json!(["closed"]);
            definition["transitions"].as_object_mut().unwrap().remove("watching");
        }
    }
    json!({ "definition": definition })
}

#[tokio::test]
async fn a_malformed_lifecycle_is_refused_with_all_its_faults() {
    let desk = desk().await;
    let mut lifecycle = a_lifecycle();
    lifecycle["definition"]["transitions"]["working"] = json!(["gone", "working"]);
    let error = add::<LifecycleDocument>(&desk, lifecycle).await.unwrap_err();
    let fields: Vec<_> = error.faults().iter().map(|one| one.field.as_str()).collect();
    assert_eq!(fields, ["definition.transitions.working[0]", "definition.transitions.working[1]"]);
    let mut unknown = a_lifecycle();
    unknown["definition"]["colour"] = json!(1);
    assert_eq!(fault(add::<LifecycleDocument>(&desk, unknown).await).0, "definition.colour");
}

#[tokio::test]
async fn a_status_that_tickets_have_is_not_removed_not_even_by_force() {
    let desk = desk().await;
    incidents(&desk).await;
    let ticket = make(&desk, "Incidents").await;
    update(&desk, ticket, to("working")).await.unwrap();
    update(&desk, ticket, to("watching")).await.unwrap();
    make(&desk, "Incidents").await;
    let refused = conflict(force::<LifecycleDocument>(&desk, "incident", edited(None)).await, Code::InUse);
    assert_eq!(
        refused,
        "The lifecycle \"incident\" would no longer have statuses that tickets are in: 1 ticket in \"watching\". \
         Keep these statuses, or move the tickets first."
    );
    update(&desk, ticket, to("working")).await.unwrap();
    let saved = change::<LifecycleDocument>(&desk, "incident", edited(None)).await.unwrap();
    assert_eq!(saved.stored.version, Some(2));
    assert_eq!(count(&desk, "SELECT count(*) FROM lifecycle_versions WHERE name = 'incident'").await, 2);
    assert_clean(&desk).await;
}

#[tokio::test]
async fn a_status_that_scrips_or_maps_name_is_removed_only_by_force() {
    let desk = desk().await;
    incidents(&desk).await;
    let mut other = a_lifecycle();
    other["name"] = json!("fault");
    other["definition"]["maps"] = json!({ "incident": { "watching": "watching" } });
    add::<LifecycleDocument>(&desk, other).await.unwrap();
    let scrip = json!({ "name": "Watch", "queue": "Incidents", "condition_type": "OnOwnerChange", "action_type": "SetStatus", "action_config": { "status": "watching" } });
    add::<ScripDocument>(&desk, scrip).await.unwrap();
    let refused = conflict(change::<LifecycleDocument>(&desk, "incident", edited(None)).await, Code::InUse);
    assert!(refused.starts_with("The maps of the lifecycles \"fault\" refer to \"watching\"."), "{refused}");
    change::<LifecycleDocument>(&desk, "fault", json!({ "definition": a_lifecycle()["definition"] }))
        .await
        .unwrap();
    let refused = conflict(change::<LifecycleDocument>(&desk, "incident", edited(None)).await, Code::InUse);
    assert!(refused.starts_with("The scrip \"Watch\" names the status \"watching\"."), "{refused}");
    let forced = force::<LifecycleDocument>(&desk, "incident", edited(None)).await.unwrap();
    assert_eq!(forced.warnings, ["The scrip \"Watch\" names the status \"watching\"."]);
}

#[tokio::test]
async fn tickets_follow_the_class_of_their_status_with_a_line_in_their_history() {
    let desk = desk().await;
    incidents(&desk).await;
    let ticket = make(&desk, "Incidents").await;
    update(&desk, ticket, to("working")).await.unwrap();
    update(&desk, ticket, to("watching")).await.unwrap();
    let before = status_of(&desk, ticket).await;
    change::<LifecycleDocument>(&desk, "incident", edited(Some("inactive"))).await.unwrap();
    let after = status_of(&desk, ticket).await;
    assert_eq!((after.1.as_str(), after.2), ("inactive", before.2 + 1));
    let line: (String, String, String, String, bool, String) = sqlx::query_as(
        "SELECT t.transaction_type, t.field, t.old_value, t.new_value, t.derived, r.channel
         FROM transactions t JOIN requests r ON r.id = t.request_id ORDER BY t.seq DESC LIMIT 1",
    )
    .fetch_one(&desk.pools.read)
    .await
    .unwrap();
    let words = (line.0.as_str(), line.1.as_str(), line.2.as_str(), line.3.as_str(), line.4, line.5.as_str());
    assert_eq!(words, ("Set", "StatusClass", "active", "inactive", true, "configuration"));
    assert_clean(&desk).await;
}

#[tokio::test]
async fn more_tickets_than_one_edit_may_move_are_refused_with_their_count() {
    let desk = desk().await;
    incidents(&desk).await;
    sqlx::query(
        "INSERT INTO tickets (version, subject, subject_folded, queue_id, status, status_class, creator_id)
         SELECT 1, 's', 's', q.id, 'watching', 'a', u.id FROM queues q, users u, generate_series(1, 10001)
         WHERE q.name = 'Incidents' AND u.username = 'admin'",
    )
    .execute(&desk.pools.write)
    .await
    .unwrap();
    let refused = conflict(
        change::<LifecycleDocument>(&desk, "incident", edited(Some("inactive"))).await,
        Code::LimitReached,
    );
    assert!(
        refused.starts_with("10001 tickets would change to another class, and at most 10000"),
        "{refused}"
    );
}

/// H1: a plan that waits while an edit moves its ticket to another class must not write the old class.
#[tokio::test]
async fn a_plan_that_waits_for_a_lifecycle_edit_is_refused_and_prepared_again() {
    let desk = desk().await;
    incidents(&desk).await;
    let ticket = make(&desk, "Incidents").await;
    update(&desk, ticket, to("working")).await.unwrap();
    update(&desk, ticket, to("watching")).await.unwrap();
    let caller = desk.administrator().unwrap();
    let stale = desk.preview_update(&caller, ticket, priority(7)).await.unwrap().plan;
    let stale_create = {
        let command = CreateTicket {
            queue: "Incidents".to_owned(),
            subject: "x".to_owned(),
            ..CreateTicket::default()
        };
        desk.preview_create(&caller, command).await.unwrap().plan
    };

    // The edit, except for its commit.
    let mut edit = Edit::begin(&desk, &caller, false).await.unwrap();
    let before = find::<LifecycleDocument>(&mut edit.db, "incident").await.unwrap();
    let after: LifecycleDocument =
        documents::read(patched(&before.document, members(edited(Some("inactive")))).unwrap()).unwrap();
    let id = after.write(&mut edit, Some(&before)).await.unwrap();

    let mut writer = desk.pools.write.acquire().await.unwrap();
    let mut maker = desk.pools.write.acquire().await.unwrap();
    let waiting = async {
        let (updated, created) = tokio::join!(
            plans::update(&mut writer, std::slice::from_ref(&stale), None),
            plans::create(&mut maker, &stale_create, None)
        );
        (updated.unwrap()[0], created.unwrap())
    };
    let commit = async {
        // The edit commits when both statements wait for a lock.
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'tickets'::regclass";
        while count(&desk, waits).await < 2 {
            tokio::task::yield_now().await;
        }
        edit.commit::<LifecycleDocument>(&desk, id).await.unwrap();
    };
    let (written, ()) = tokio::join!(waiting, commit);
    assert_eq!(written, (plans::Written::ConfigurationMoved, plans::Written::ConfigurationMoved));
    drop((writer, maker));

    update(&desk, ticket, priority(7)).await.unwrap();
    assert_eq!(status_of(&desk, ticket).await.1, "inactive");
    assert_clean(&desk).await;
}

#[tokio::test]
async fn a_session_that_holds_tickets_stops_an_edit_of_a_class_and_nobody_else() {
    let desk = desk().await;
    incidents(&desk).await;
    let ticket = make(&desk, "Incidents").await;
    let mut session = desk.pools.write.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE tickets IN ROW EXCLUSIVE MODE").execute(&mut *session).await.unwrap();
    let edit = async {
        let refused = change::<LifecycleDocument>(&desk, "incident", edited(Some("inactive"))).await;
        refused.unwrap_err().code()
    };
    let mut edit = std::pin::pin!(edit);
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'tickets'::regclass";
    let asked = async {
        while count(&desk, waits).await == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        code = &mut edit => panic!("{code:?} before it asked for the lock"),
        () = asked => {}
    }
    // Each of these is behind the edit's request for the lock for a moment at most.
    for n in 1..=2 {
        tokio::select! {
            code = &mut edit => panic!("{code:?} after {n} changes"),
            written = update(&desk, ticket, priority(n)) => drop(written.unwrap()),
        }
    }
    assert_eq!(edit.await, Code::Locked);
    session.rollback().await.unwrap();
    change::<LifecycleDocument>(&desk, "incident", edited(Some("inactive"))).await.unwrap();
    assert_clean(&desk).await;
}

#[tokio::test]
async fn edits_of_a_class_and_updates_of_its_tickets_leave_nothing_stale() {
    let desk = desk().await;
    incidents(&desk).await;
    let mut tickets = Vec::new();
    for _ in 0..4 {
        let ticket = make(&desk, "Incidents").await;
        update(&desk, ticket, to("working")).await.unwrap();
        update(&desk, ticket, to("watching")).await.unwrap();
        tickets.push(ticket);
    }
    let edits = async {
        for round in 0..6 {
            let class = if round % 2 == 0 { "inactive" } else { "initial" };
            change::<LifecycleDocument>(&desk, "incident", edited(Some(class))).await.unwrap();
        }
    };
    let updates =
        futures::future::join_all((1..=40).map(|n| update(&desk, tickets[n % 4], priority(n as i32))));
    let ((), updates) = tokio::join!(edits, updates);
    assert!(updates.iter().all(Result::is_ok), "{updates:?}");
    assert_clean(&desk).await;
}

#[tokio::test]
async fn a_queue_takes_another_lifecycle_when_its_tickets_fit() {
    let desk = desk().await;
    incidents(&desk).await;
    let ticket = make(&desk, "Incidents").await;
    let refused = conflict(
        change::<QueueDocument>(&desk, "Incidents", json!({ "lifecycle": "default" })).await,
        Code::InUse,
    );
    assert!(refused.contains("1 ticket in \"reported\""), "{refused}");
    let mut other = edited(None);
    other["name"] = json!("started");
    let definition = &mut other["definition"];
    definition["initial"] = json!([]);
    definition["active"] = json!(["reported", "working"]);
    add::<LifecycleDocument>(&desk, other).await.unwrap();
    change::<QueueDocument>(&desk, "Incidents", json!({ "lifecycle": "started" })).await.unwrap();
    assert_eq!(status_of(&desk, ticket).await.1, "active");
    assert_clean(&desk).await;
}

#[tokio::test]
async fn a_field_allows_no_fewer_values_than_a_ticket_has() {
    let desk = desk().await;
    add::<CustomFieldDocument>(&desk, json!({ "name": "Tags", "field_type": "Freeform", "max_values": 0 }))
        .await
        .unwrap();
    change::<QueueDocument>(&desk, "General", json!({ "custom_fields": ["Tags"] })).await.unwrap();
    let (three, one) = (make(&desk, "General").await, make(&desk, "General").await);
    let tags = |values: &[&str]| {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        let custom_fields = [("Tags".to_owned(), FieldChange::Replace(values))].into();
        UpdateTicket { custom_fields, ..UpdateTicket::default() }
    };
    update(&desk, three, tags(&["a", "b", "c"])).await.unwrap();
    update(&desk, one, tags(&["a"])).await.unwrap();
    let allow =
        async |most: u32| change::<CustomFieldDocument>(&desk, "Tags", json!({ "max_values": most })).await;
    for most in [1, 2] {
        let refused = conflict(allow(most).await, Code::InUse);
        let expected = format!(
            "1 ticket has more than {most} values of \"Tags\", which would be hidden. Allow more values, or remove some from these tickets first."
        );
        assert_eq!(refused, expected);
    }
    allow(3).await.unwrap();
    allow(0).await.unwrap();
    update(&desk, three, tags(&["a"])).await.unwrap();
    allow(1).await.unwrap();
}

#[tokio::test]
async fn a_field_keeps_its_type_and_the_values_that_tickets_have() {
    let desk = desk().await;
    let field =
        json!({ "name": "Severity", "field_type": "SelectSingle", "values": ["low", "high", "worst"] });
    add::<CustomFieldDocument>(&desk, field).await.unwrap();
    change::<QueueDocument>(&desk, "General", json!({ "custom_fields": ["Severity"] })).await.unwrap();
    let ticket = make(&desk, "General").await;
    sqlx::query(
        "INSERT INTO custom_field_values (custom_field_id, ticket_id, value, value_folded)
         SELECT f.id, t.id, 'high', 'high' FROM custom_fields f, tickets t",
    )
    .execute(&desk.pools.write)
    .await
    .unwrap();
    let fewer = change::<CustomFieldDocument>(&desk, "Severity", json!({ "values": ["low"] })).await;
    assert_eq!(
        conflict(fewer, Code::InUse),
        "Tickets have values that \"Severity\" would no longer list: \"high\" (1 ticket). Keep these values, or change the tickets first."
    );
    change::<CustomFieldDocument>(&desk, "Severity", json!({ "values": ["low", "high"] })).await.unwrap();
    let other = force::<CustomFieldDocument>(&desk, "Severity", json!({ "field_type": "Freeform" })).await;
    let refused = conflict(other, Code::InUse);
    assert!(
        refused.starts_with("Tickets have 1 value of \"Severity\", so its type cannot change."),
        "{refused}"
    );
    assert_eq!(status_of(&desk, ticket).await.2, 1);
}
