//! Queries in conditions: the ticket and the change that they see, and queries that fail.

use super::*;
use crate::plan::explain::{Done, bystanders};

fn asks(query: &str) -> Value {
    json!({ "query": query })
}

fn raise() -> (&'static str, Value) {
    ("SetPriority", json!({"value": "80"}))
}

/// A configuration with one scrip, It, which raises the priority.
fn desk(kind: &str, query: &str, more: Value) -> Catalog {
    Desk::new().scrip("It", (kind, asks(query)), raise(), more).open()
}

/// Creates a ticket in a configuration without scrips.
fn made() -> Ticket {
    create(&Desk::new().open(), new_ticket()).unwrap().ticket
}

/// Returns whether It fires on a change of [`made`].
#[track_caller]
fn fires(kind: &str, query: &str, more: Value, command: UpdateTicket) -> bool {
    let plan = update(&desk(kind, query, more), &made(), command).unwrap();
    let verdicts: Vec<Verdict> =
        plan.evaluations.iter().filter(|one| one.name == "It").map(|one| one.verdict).collect();
    assert!(
        verdicts.iter().all(|one| matches!(one, Verdict::Fired | Verdict::NotApplicable | Verdict::Declined))
    );
    verdicts.contains(&Verdict::Fired)
}

fn several() -> UpdateTicket {
    UpdateTicket {
        subject: Some("Printer drowned".to_owned()),
        owner: Some(Some("ann".to_owned())),
        comment: Some(text("It is wet.")),
        custom_fields: BTreeMap::from([("Severity".to_owned(), replace(&["high"]))]),
        ..status("open")
    }
}

#[test]
fn a_condition_with_a_query_fires_when_both_hold() {
    let severe = |value: &str| CreateTicket {
        custom_fields: BTreeMap::from([("Severity".to_owned(), vec![value.to_owned()])]),
        ..new_ticket()
    };
    let catalog = desk("OnCreate", "CF.{Severity} = 'high'", json!({}));
    let (high, low) = (create(&catalog, severe("high")).unwrap(), create(&catalog, severe("low")).unwrap());
    assert_eq!((verdict_of(&high, "It"), high.ticket.priority), (Verdict::Fired, 80));
    assert_eq!((verdict_of(&low, "It"), low.ticket.priority), (Verdict::NotApplicable, 0));
    let none = create(&catalog, new_ticket()).unwrap();
    assert_eq!(verdict_of(&none, "It"), Verdict::NotApplicable);
    assert_folds(&[], &high);
    // The type of the condition must hold too.
    assert!(fires("OnStatusChange", "Subject LIKE 'fire'", json!({}), status("open")));
    assert!(!fires("OnStatusChange", "Subject LIKE 'water'", json!({}), status("open")));
    assert!(!fires("OnResolve", "Subject LIKE 'fire'", json!({}), status("open")));
    let plan = update(&desk("OnResolve", "Status = new", json!({})), &made(), status("open")).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&plan.evaluations[0].why).unwrap());
}

#[test]
fn a_query_sees_the_ticket_after_the_whole_request_and_not_what_the_pass_does() {
    // The comment comes first in the history, and sees the rest of its request.
    assert!(fires(
        "OnComment",
        "Status = open AND Owner = ann AND Subject LIKE 'drown'",
        json!({}),
        several()
    ));
    assert!(!fires("OnComment", "Status = new", json!({}), several()));
    let catalog = Desk::new()
        .scrip("First", ("OnCreate", json!({})), raise(), json!({"sort_order": 1}))
        .scrip("Same pass", ("OnCreate", asks("Priority = 80")), raise(), json!({"sort_order": 2}))
        .scrip(
            "Later",
            ("OnPriorityChange", asks("Priority = 80 AND LastUpdatedBy = system")),
            ("SetSubject", json!({"value": "x"})),
            json!({}),
        )
        .open();
    let plan = create(&catalog, new_ticket()).unwrap();
    assert_eq!(
        verdicts(&plan),
        ["First: fired", "Same pass: not_applicable", "Later: fired", "Later: not_applicable"]
    );
}

#[test]
fn user_defined_fires_on_whatever_its_query_holds_for() {
    assert!(fires("UserDefined", "Transaction.Type = Comment", json!({}), several()));
    assert!(!fires("UserDefined", "Transaction.Type = Comment", json!({}), status("open")));
    assert!(!fires("UserDefined", "Transaction.Type = Comment", json!({"types": ["Status"]}), several()));
    assert!(fires("UserDefined", "Transaction.Content LIKE 'WET'", json!({}), several()));
    assert!(fires(
        "UserDefined",
        "Transaction.Field = 'Severity' AND Transaction.NewValue = high",
        json!({}),
        several()
    ));
    let catalog = desk("UserDefined", "Priority < 80", json!({}));
    let plan = create(&catalog, new_ticket()).unwrap();
    assert_eq!(verdicts(&plan), ["It: fired", "It: not_applicable"], "its own change is tried as well");
    assert_eq!(plan.evaluations[1].why.predicate, "Priority", "the query alone says why");
}

#[test]
fn the_actor_and_the_channel_are_those_of_the_request() {
    for (query, expected) in [
        ("Actor = admin", true),
        ("Actor = ann", false),
        ("Actor.EmailAddress = 'ADMIN@desk.example'", true),
        ("Actor = Creator AND Actor = __CurrentUser__", true),
        ("Channel = test", true),
        ("Channel IN (rest, cli)", false),
        ("LastUpdatedBy = admin AND LastUpdated = now", true),
    ] {
        assert_eq!(fires("OnStatusChange", query, json!({}), status("open")), expected, "{query}");
    }
    // Changes by a scrip are made by the system user, on behalf of the person who made the request.
    let catalog = Desk::new()
        .scrip("First", ("OnCreate", json!({})), raise(), json!({}))
        .scrip(
            "System",
            ("OnPriorityChange", asks("LastUpdatedBy = system AND Actor = admin")),
            ("SetSubject", json!({"value": "x"})),
            json!({}),
        )
        .open();
    let plan = create(&catalog, new_ticket()).unwrap();
    assert_eq!(verdict_of(&plan, "System"), Verdict::Fired);
}

#[test]
fn changed_looks_at_the_transaction_at_hand_and_in_the_batch_at_all_of_the_request() {
    let batch = || json!({"stage": "TransactionBatch", "types": ["Comment"]});
    let each = || json!({"types": ["Comment"]});
    for query in
        ["Status CHANGED FROM new TO open", "Owner CHANGED", "CF.Severity CHANGED TO high", "Started CHANGED"]
    {
        assert!(fires("UserDefined", query, batch(), several()), "{query}");
        assert!(!fires("UserDefined", query, each(), several()), "{query}");
    }
    assert!(!fires("UserDefined", "Status CHANGED FROM open", batch(), several()));
    assert!(fires("UserDefined", "Status CHANGED FROM new TO open", json!({}), several()));
    assert!(fires("UserDefined", "Changed.Owner FROM Nobody TO ann", json!({}), several()));
    assert!(!fires("UserDefined", "Status CHANGED AND Owner CHANGED", json!({}), several()), "one at a time");
    assert!(
        fires("UserDefined", "Status CHANGED AND Owner CHANGED", batch(), several()),
        "both of the request"
    );
    assert!(!fires("UserDefined", "Started CHANGED", json!({}), several()), "what follows starts no pass");
    // Creating a ticket changes nothing; changes by its scrips do count.
    let values = CreateTicket { priority: Some(5), status: Some("open".to_owned()), ..new_ticket() };
    let query = "Status CHANGED OR Priority CHANGED OR Subject CHANGED";
    let plan =
        create(&desk("UserDefined", query, json!({"stage": "TransactionBatch"})), values.clone()).unwrap();
    assert_eq!(verdict_of(&plan, "It"), Verdict::NotApplicable);
    let catalog = Desk::new()
        .scrip("First", ("OnCreate", json!({})), raise(), json!({}))
        .scrip(
            "Batch",
            ("OnCreate", asks(query)),
            ("SetSubject", json!({"value": "x"})),
            json!({"stage": "TransactionBatch"}),
        )
        .open();
    let plan = create(&catalog, values).unwrap();
    assert_eq!(verdict_of(&plan, "Batch"), Verdict::Fired);
}

#[test]
fn a_new_ticket_has_no_number_for_a_query_so_that_its_preview_says_what_is_done() {
    for (query, expected) in [("id > 0", Verdict::NotApplicable), ("NOT id > 0", Verdict::Fired)] {
        let catalog = desk("OnCreate", query, json!({}));
        let people = People::default();
        let preview = Situation { ticket: Target::New { number: None }, people, messages: Vec::new() };
        let preview = prepare(&catalog, &preview, &Command::Create(new_ticket()), &context(1)).unwrap();
        let plan = create(&catalog, new_ticket()).unwrap();
        assert_eq!([verdict_of(&preview, "It"), verdict_of(&plan, "It")], [expected; 2], "{query}");
        assert_eq!(preview.hash, plan.hash);
    }
    assert!(fires("OnStatusChange", "id = 42", json!({}), status("open")));
}

#[test]
fn a_query_that_names_what_is_gone_fails_its_scrip_and_not_the_request() {
    let mut gone = Desk::new()
        .scrip("Gone", ("OnCreate", asks("Priority = 0\n AND CF.{Severity} = 'high'")), raise(), json!({}))
        .scrip("Elsewhere", ("OnResolve", asks("CF.Severity = high")), raise(), json!({}))
        .scrip(
            "Good",
            ("OnCreate", asks("Priority = 0")),
            ("SetSubject", json!({"value": "fine"})),
            json!({}),
        );
    gone.parts.fields.retain(|field| field.name != "Severity");
    let catalog = gone.open();
    let plan = create(&catalog, new_ticket()).unwrap();
    assert_eq!(verdicts(&plan), ["Gone: failed", "Good: fired"]);
    assert_eq!((plan.ticket.priority, plan.ticket.subject.as_str()), (0, "fine"));
    assert_eq!(history(&plan).len(), 3, "{:?}", history(&plan));
    let sentence = plan.transactions[1].new_value.as_deref().unwrap();
    let said = "scrip Gone v3 failed: condition_config.query, line 2, column 6: there is no custom field \"Severity\"";
    assert!(sentence.starts_with(said), "{sentence}");
    let why = &plan.evaluations[0].why;
    assert!(!why.result && why.children[0].result, "{why:?}");
    assert_eq!(why.children[1].expected, "Priority = 0\n AND CF.{Severity} = 'high'");
    assert!(why.children[1].reason.as_deref().unwrap().contains("there is no custom field"), "{why:?}");
    // If the event did not happen, an invalid query is not a failure.
    let opened = update(&catalog, &made(), status("open")).unwrap();
    assert_eq!(verdict_of(&opened, "Elsewhere"), Verdict::NotApplicable);
    assert_eq!(
        update(&catalog, &made(), status("resolved")).unwrap().evaluations[0].verdict,
        Verdict::Failed
    );
}

#[test]
fn a_broken_query_is_told_once_a_batch_and_on_trial_by_its_why_alone() {
    let broken = |more: Value| {
        let mut desk = Desk::new().scrip("It", ("UserDefined", asks("CF.Note = x")), raise(), more);
        desk.parts.fields.retain(|field| field.name != "Note");
        update(&desk.open(), &made(), UpdateTicket { custom_fields: BTreeMap::new(), ..several() }).unwrap()
    };
    let errors = |plan: &Plan| history(plan).iter().filter(|line| line.starts_with("SystemError")).count();
    let batch = broken(json!({"stage": "TransactionBatch"}));
    assert_eq!((verdicts(&batch), errors(&batch)), (vec!["It: failed".to_owned()], 1));
    let trial = broken(json!({"stage": "TransactionBatch", "state": "shadow"}));
    assert_eq!((verdicts(&trial), errors(&trial)), (vec!["It: shadow".to_owned()], 0));
    assert!(why_of(&trial, "It").contains("there is no custom field"), "{}", why_of(&trial, "It"));
    assert_eq!(trial.evaluations[0].would, Vec::<Value>::new());
    let without =
        update(&Desk::new().open(), &made(), UpdateTicket { custom_fields: BTreeMap::new(), ..several() });
    assert_eq!(trial.hash, without.unwrap().hash, "what is on trial is not in the hash");
}

#[test]
fn a_scrip_on_trial_tells_what_its_query_found_and_does_nothing() {
    let catalog = desk("OnCreate", "Subject MATCHES 'fire'", json!({"state": "shadow"}));
    let plan = create(&catalog, new_ticket()).unwrap();
    assert_eq!((verdict_of(&plan, "It"), plan.ticket.priority), (Verdict::Shadow, 0));
    assert_eq!(plan.evaluations[0].why.children[1].actual, "Printer on fire");
    let catalog = desk("OnCreate", "Subject MATCHES 'water'", json!({"state": "shadow"}));
    assert_eq!(verdict_of(&create(&catalog, new_ticket()).unwrap(), "It"), Verdict::NotApplicable);
}

#[test]
fn a_desk_that_changes_gives_its_queries_their_meaning_anew() {
    let with = |desk: Desk| desk.scrip("It", ("OnCreate", asks("Lifecycle = default")), raise(), json!({}));
    let mut desk = with(Desk::new());
    let support = desk.parts.queues[0].clone();
    let third = Queue { id: QueueId(id(120)), name: "Third".to_owned(), ..(*support).clone() };
    desk.parts.queues.push(Arc::new(third));
    let command = CreateTicket { queue: "Third".to_owned(), ..new_ticket() };
    assert_eq!(
        verdict_of(&create(&desk.open(), command).unwrap(), "It"),
        Verdict::Fired,
        "the new queue is in it"
    );
}

#[test]
fn what_is_explained_afterwards_is_what_was_found_then() {
    let catalog = Desk::new()
        .scrip(
            "Open",
            ("OnComment", asks("Status = open AND CF.Severity = high AND Transaction.Content LIKE 'dry'")),
            raise(),
            json!({}),
        )
        .scrip(
            "Batch",
            ("UserDefined", asks("Status CHANGED TO resolved")),
            raise(),
            json!({"stage": "TransactionBatch"}),
        )
        .scrip("Derived", ("UserDefined", asks("Started IS NULL")), raise(), json!({}))
        .scrip(
            "Sets",
            ("OnOwnerChange", json!({})),
            ("SetCustomField", json!({"field": "Note", "value": "n"})),
            json!({}),
        )
        .scrip(
            "Cascade",
            ("OnCustomFieldChange", json!({"field": "Note", "query": "Owner = bob"})),
            raise(),
            json!({}),
        )
        .open();
    let made = made();
    let plan = update(&catalog, &made, several()).unwrap();
    assert_explained(&catalog, &plan, &["Open", "Batch", "Derived", "Cascade"]);
    let new = desk("OnCreate", "id > 0 OR Status CHANGED", json!({}));
    assert_explained(&new, &create(&new, new_ticket()).unwrap(), &["It"]);
}

/// Asserts that these scrips, without their evaluations, are explained with the same reasons as in the plan.
#[track_caller]
fn assert_explained(catalog: &Catalog, plan: &Plan, scrips: &[&str]) {
    let (nobody, actor) = (People::default(), admin());
    let done = Done {
        actor: &actor,
        channel: plan.channel,
        now: plan.now,
        people: &nobody,
        before: plan.before.as_ref(),
        transactions: &plan.transactions,
        evaluations: &[],
        passes: &plan.passes,
    };
    let all = bystanders(catalog, done);
    let told: Vec<&str> = all.iter().map(|one| one.scrip.name.as_str()).collect();
    assert_eq!(told, scrips);
    for one in &all {
        let planned = plan.evaluations.iter().find(|planned| planned.name == one.scrip.name).unwrap();
        assert_eq!(one.why, planned.why, "{}", one.scrip.name);
    }
}
