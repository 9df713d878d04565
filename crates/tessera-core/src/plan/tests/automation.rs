//! Passes, stages, cascades, budgets, verdicts.

use super::*;

fn raise(to: &str) -> (&'static str, Value) {
    ("SetPriority", json!({ "value": to }))
}

#[test]
fn scrips_of_a_pass_run_in_order_and_see_one_snapshot() {
    let catalog = Desk::new()
        .scrip(
            "Second",
            ("OnCreate", json!({})),
            ("SetSubject", json!({"value": "p={{ ticket.priority }}"})),
            json!({"sort_order": 20}),
        )
        .scrip("First", ("OnCreate", json!({})), raise("5"), json!({"sort_order": 10}))
        .scrip("Later", ("OnPriorityChange", json!({})), ("AddComment", json!({"content": "x"})), json!({}))
        .open();
    let plan = create(&catalog, new_ticket()).unwrap();
    assert_eq!(verdicts(&plan)[..3], ["First: fired", "Second: fired", "Later: refused"]);
    assert_eq!(plan.ticket.subject, "p=0", "Second does not see what First did in the same pass");
    assert_eq!(plan.ticket.priority, 5);
    assert!(why_of(&plan, "Later").contains("scrips do not reply to each other"));
    assert_folds(&[], &plan);
}

#[test]
fn what_scrips_change_says_which_scrip_and_transaction_caused_it() {
    let catalog = Desk::new().scrip("Raise", ("OnCreate", json!({})), raise("5"), json!({})).open();
    let plan = create(&catalog, new_ticket()).unwrap();
    let [first, second] = plan.transactions.as_slice() else { panic!("two transactions") };
    assert_eq!(second.caused_by, Some(first.id));
    assert_eq!(second.scrip_version, Some(ScripVersionId(id(601))));
    assert_eq!((first.creator, second.creator), (ADMIN_USER, SYSTEM_USER));
    assert_eq!(plan.evaluations[0].transactions, [second.id]);
}

#[test]
fn two_scrips_that_set_each_other_off_stop_visibly() {
    let catalog = Desk::new()
        .scrip(
            "Stall",
            ("OnStatusChange", json!({"to": "open"})),
            ("SetStatus", json!({"status": "stalled"})),
            json!({}),
        )
        .scrip(
            "Unstall",
            ("OnStatusChange", json!({"to": "stalled"})),
            ("SetStatus", json!({"status": "open"})),
            json!({}),
        )
        .open();
    let made = create(&catalog, new_ticket()).unwrap();
    let plan = update(&catalog, &made.ticket, status("open")).unwrap();
    let errors: Vec<_> =
        plan.transactions.iter().filter(|t| t.transaction_type == TransactionType::SystemError).collect();
    assert_eq!(errors.len(), 1, "told of once");
    let sentence = errors[0].new_value.as_deref().unwrap();
    assert!(sentence.starts_with("automation stopped at depth 10: Stall -> Unstall -> Stall"), "{sentence}");
    assert_eq!(plan.evaluations.iter().filter(|one| one.verdict == Verdict::Stopped).count(), 1);
    assert_eq!(history(&plan).len(), 1 + 1 + 10 + 1, "the change, Started, ten rounds, one SystemError");
    assert_folds(&[&made], &plan);
}

#[test]
fn a_request_fires_at_most_its_budget_of_scrips_and_deliveries() {
    let mut desk = Desk::new();
    for n in 0..150 {
        let hook = json!({ "url": format!("https://hooks.example/{n}") });
        desk = desk.scrip(&format!("Hook {n}"), ("OnCreate", json!({})), ("Webhook", hook), json!({}));
    }
    let plan = create(&desk.open(), new_ticket()).unwrap();
    assert_eq!(plan.deliveries.len(), DELIVERIES_MAX);
    assert_eq!(plan.evaluations.iter().filter(|one| one.verdict == Verdict::Stopped).count(), 50);
    assert_eq!(history(&plan).len(), 2, "Create and one SystemError");

    let mut desk = Desk::new();
    for n in 0..250 {
        desk = desk.scrip(&format!("Set {n}"), ("OnCreate", json!({})), raise(&n.to_string()), json!({}));
    }
    let plan = create(&desk.open(), new_ticket()).unwrap();
    assert_eq!(plan.evaluations.iter().filter(|one| one.verdict == Verdict::Stopped).count(), 50);
}

#[test]
fn the_batch_runs_once_with_the_first_transaction_that_matches() {
    let catalog = Desk::new()
        .scrip(
            "Summary",
            ("OnPriorityChange", json!({})),
            (
                "SetCustomField",
                json!({"field": "Note", "value": "{{ transaction.new_value }} of {{ batch | length }}"}),
            ),
            json!({"stage": "TransactionBatch"}),
        )
        .scrip(
            "Chain",
            ("OnCustomFieldChange", json!({"field": "Note"})),
            ("SetSubject", json!({"value": "after batch"})),
            json!({}),
        )
        .scrip(
            "Again",
            ("OnTransaction", json!({})),
            raise("3"),
            json!({"stage": "TransactionBatch", "types": ["Set"]}),
        )
        .open();
    let made = create(&catalog, new_ticket()).unwrap();
    let change = UpdateTicket {
        subject: Some("x".to_owned()),
        priority: Some(8),
        status: Some("open".to_owned()),
        ..UpdateTicket::default()
    };
    let plan = update(&catalog, &made.ticket, change).unwrap();
    assert_eq!(
        plan.ticket.values_of(CustomFieldId(id(302))),
        ["8 of 4"],
        "the derived Started is in the batch"
    );
    assert_eq!(plan.ticket.subject, "after batch", "what the batch changes gets its TransactionCreate pass");
    assert_eq!(
        plan.evaluations.iter().filter(|one| one.name == "Summary").count(),
        1,
        "never a second batch"
    );
    assert_eq!(plan.ticket.priority, 3);
    assert_folds(&[&made], &plan);
}

#[test]
fn a_scrip_on_trial_is_told_of_and_does_nothing() {
    let catalog = Desk::new()
        .template("T", "Hello", "Body of {{ ticket.subject }}")
        .scrip(
            "Trial",
            ("OnCreate", json!({})),
            ("SendEmail", json!({"to": ["x@example.net"]})),
            json!({"state": "shadow", "template": "T"}),
        )
        .scrip("TrialSet", ("OnCreate", json!({})), raise("4"), json!({"state": "shadow"}))
        .open();
    let plan = create(&catalog, new_ticket()).unwrap();
    assert_eq!(verdicts(&plan), ["Trial: shadow", "TrialSet: shadow"]);
    assert_eq!((plan.deliveries.len(), plan.ticket.priority), (0, 0));
    assert_eq!(plan.evaluations[0].would[0]["email"]["text"], "Body of Printer on fire");
    let without = create(&Desk::new().open(), new_ticket()).unwrap();
    assert_eq!(plan.hash, without.hash, "what is on trial is not in the hash");
}

#[test]
fn a_broken_template_fails_its_scrip_and_not_the_update() {
    let catalog = Desk::new()
        .template("Broken", "s", "line one\n{{ ticket.cf[\"Gone\"] }}")
        .scrip(
            "Broken mail",
            ("OnCreate", json!({})),
            ("SendEmail", json!({"to": ["x@example.net"]})),
            json!({"template": "Broken"}),
        )
        .scrip("Good", ("OnCreate", json!({})), raise("2"), json!({}))
        .open();
    let plan = create(&catalog, new_ticket()).unwrap();
    assert_eq!(verdicts(&plan), ["Broken mail: failed", "Good: fired"]);
    let [_, error, _] = plan.transactions.as_slice() else {
        panic!("three transactions: {:?}", history(&plan))
    };
    let sentence = error.new_value.as_deref().unwrap();
    assert!(sentence.contains("Broken mail") && sentence.contains("line 2"), "{sentence}");
    assert_eq!(plan.ticket.priority, 2);
}

#[test]
fn an_effect_that_is_not_allowed_is_refused_and_one_that_changes_nothing_is_declined() {
    let table = [
        ("SetStatus", json!({"status": "new"}), Verdict::Declined, "no change"),
        ("SetStatus", json!({"status": "initial"}), Verdict::Declined, "no change"),
        (
            "SetStatus",
            json!({"status": "active", "from": ["inactive"]}),
            Verdict::Declined,
            "status was new (initial), not inactive",
        ),
        ("SetStatus", json!({"status": "nonsense"}), Verdict::Refused, "nonsense"),
        ("SetOwner", json!({"value": "stranger"}), Verdict::Refused, "stranger"),
        ("SetPriority", json!({"value": "{{ 'very' }}"}), Verdict::Refused, "is not a whole number"),
        ("SetDue", json!({"value": "{{ 'tomorrow' }}"}), Verdict::Refused, "is not a time"),
        (
            "SetDue",
            json!({"value": "{{ '9999-12-31T23:59:59-01:00' }}"}),
            Verdict::Refused,
            "years 1 to 9999",
        ),
        ("SetQueue", json!({"value": "Nowhere"}), Verdict::Refused, "there is no queue"),
        ("SetCustomField", json!({"field": "Severity", "value": "urgent"}), Verdict::Refused, "urgent"),
        ("SetCustomField", json!({"field": "Severity", "mode": "clear"}), Verdict::Declined, "no change"),
        ("AddWatcher", json!({"role": "cc", "who": "stranger"}), Verdict::Refused, "there is no user"),
        ("RemoveWatcher", json!({"role": "cc", "who": "a@example.net"}), Verdict::Declined, "no change"),
        ("SetStatus", json!({"status": "active"}), Verdict::Fired, ""),
        ("SetOwner", json!({"value": "{{ actor.username }}"}), Verdict::Fired, ""),
        ("SetDue", json!({"value": "2026-12-24T18:00:00+01:00"}), Verdict::Fired, ""),
        ("SetQueue", json!({"value": "billing"}), Verdict::Fired, ""),
        ("SetCustomField", json!({"field": "Components", "value": ["web", "db"]}), Verdict::Fired, ""),
        ("AddWatcher", json!({"role": "cc", "who": "a@example.net"}), Verdict::Fired, ""),
    ];
    for (action, config, expected, reason) in table {
        let catalog =
            Desk::new().scrip("It", ("OnCreate", json!({})), (action, config.clone()), json!({})).open();
        let plan = create(&catalog, new_ticket()).unwrap();
        let why = why_of(&plan, "It");
        assert_eq!(verdict_of(&plan, "It"), expected, "{action} {config}: {why}");
        assert!(why.contains(reason), "{action} {config}: {why}");
        let changed = plan.transactions.len() > 1;
        assert_eq!(changed, expected == Verdict::Fired, "{action} {config}: {:?}", history(&plan));
        assert_folds(&[], &plan);
    }
}

#[test]
fn a_reply_opens_a_closed_ticket_and_leaves_alone_what_the_request_itself_decides() {
    let catalog = Desk::new()
        .scrip(
            "Reopen",
            ("OnCorrespond", json!({})),
            ("SetStatus", json!({"status": "active", "from": ["inactive"]})),
            json!({}),
        )
        .open();
    let made = create(&catalog, new_ticket()).unwrap();
    let reply = |status: Option<&str>| UpdateTicket {
        reply: Some(text("hello")),
        status: status.map(str::to_owned),
        ..UpdateTicket::default()
    };
    let resolved = update(&catalog, &made.ticket, reply(Some("resolved"))).unwrap();
    assert_eq!(
        (resolved.ticket.status.as_str(), verdict_of(&resolved, "Reopen")),
        ("resolved", Verdict::Declined)
    );
    let rejected = update(&catalog, &resolved.ticket, reply(Some("rejected"))).unwrap();
    assert_eq!(
        (rejected.ticket.status.as_str(), verdict_of(&rejected, "Reopen")),
        ("rejected", Verdict::Declined)
    );
    let reopened = update(&catalog, &rejected.ticket, reply(None)).unwrap();
    assert_eq!((reopened.ticket.status.as_str(), verdict_of(&reopened, "Reopen")), ("open", Verdict::Fired));
}

#[test]
fn conditions_hold_for_what_they_say_and_their_why_hides_nothing() {
    // A condition, its configuration, and the requests that it fires on.
    let requests: [(&str, UpdateTicket); 6] = [
        ("open", status("open")),
        ("resolve", status("resolved")),
        ("reply", UpdateTicket { reply: Some(text("x")), ..UpdateTicket::default() }),
        ("comment", UpdateTicket { comment: Some(text("x")), ..UpdateTicket::default() }),
        ("owner", UpdateTicket { owner: Some(Some("ann".to_owned())), ..UpdateTicket::default() }),
        (
            "high",
            UpdateTicket {
                custom_fields: BTreeMap::from([("Severity".to_owned(), replace(&["high"]))]),
                ..UpdateTicket::default()
            },
        ),
    ];
    let table: [(&str, Value, &[&str]); 16] = [
        ("OnCreate", json!({}), &[]),
        ("OnTransaction", json!({}), &["open", "resolve", "reply", "comment", "owner", "high"]),
        ("OnStatusChange", json!({}), &["open", "resolve"]),
        ("OnStatusChange", json!({"to": "Open"}), &["open"]),
        ("OnStatusChange", json!({"from": ["initial"], "to": ["inactive", "stalled"]}), &["resolve"]),
        ("OnStatusChange", json!("old: new; new: open, resolved"), &["open", "resolve"]),
        ("OnStatusChange", json!({"from": "active"}), &[]),
        ("OnResolve", json!({}), &["resolve"]),
        ("OnReject", json!({}), &[]),
        ("OnClose", json!({}), &[]),
        ("OnReopen", json!({}), &[]),
        ("OnCorrespond", json!({}), &["reply"]),
        ("OnComment", json!({}), &["comment"]),
        ("OnOwnerChange", json!({}), &["owner"]),
        ("OnCustomFieldChange", json!({"field": "severity", "to": "HIGH"}), &["high"]),
        ("OnCustomFieldChange", json!({"field": "Severity", "from": "low"}), &[]),
    ];
    for (condition, config, expected) in table {
        let catalog = Desk::new()
            .scrip("It", (condition, config.clone()), ("SetSubject", json!({"value": "fired"})), json!({}))
            .open();
        let made = create(&Desk::new().open(), new_ticket()).unwrap();
        let fired: Vec<&str> = requests
            .iter()
            .filter(|(_, command)| {
                update(&catalog, &made.ticket, command.clone()).unwrap().ticket.subject == "fired"
            })
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(fired, expected, "{condition} {config}");
    }
    let catalog = Desk::new()
        .scrip("It", ("OnStatusChange", json!({"from": "open", "to": "rejected"})), raise("1"), json!({}))
        .open();
    let made = create(&catalog, new_ticket()).unwrap();
    let plan = update(&catalog, &made.ticket, status("resolved")).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&plan.evaluations[0].why).unwrap());
}

/// A configuration that sends a mail and a webhook for every new ticket, and raises its priority.
fn outspoken() -> Catalog {
    Desk::new()
        .template("T", "It", "Words")
        .scrip(
            "Mail",
            ("OnCreate", json!({})),
            ("SendEmail", json!({"to": ["x@example.net"]})),
            json!({"template": "T"}),
        )
        .scrip(
            "Call",
            ("OnCreate", json!({})),
            ("Webhook", json!({"url": "https://hooks.example/in"})),
            json!({}),
        )
        .scrip("Raise", ("OnCreate", json!({})), ("SetPriority", json!({"value": "7"})), json!({}))
        .open()
}

fn create_at(catalog: &Catalog, depth: u32) -> Plan {
    let people = People::default();
    let situation = Situation { ticket: Target::New { number: Some(42) }, people, messages: Vec::new() };
    prepare(catalog, &situation, &Command::Create(new_ticket()), &Context { depth, ..context(1) }).unwrap()
}

#[test]
fn each_delivery_says_how_deep_it_is_and_what_came_too_deep_sends_nothing_more() {
    let catalog = outspoken();
    let mut hashes = std::collections::BTreeSet::new();
    for depth in 0..EXTERNAL_DEPTH_MAX {
        let plan = create_at(&catalog, depth);
        assert_eq!(plan.deliveries.len(), 2, "at {depth}");
        for delivery in &plan.deliveries {
            assert_eq!(delivery.payload.depth(), depth + 1);
        }
        hashes.insert(plan.hash.to_string());
    }
    assert_eq!(hashes.len(), EXTERNAL_DEPTH_MAX as usize, "the depth is part of what will happen");
    for depth in [EXTERNAL_DEPTH_MAX, EXTERNAL_DEPTH_MAX + 1, u32::MAX] {
        let plan = create_at(&catalog, depth);
        assert!(plan.deliveries.is_empty());
        assert_eq!([verdict_of(&plan, "Mail"), verdict_of(&plan, "Call")], [Verdict::Stopped; 2]);
        assert_eq!(
            (verdict_of(&plan, "Raise"), plan.ticket.priority),
            (Verdict::Fired, 7),
            "the ticket is kept up"
        );
        let errors: Vec<_> = plan
            .transactions
            .iter()
            .filter(|one| one.transaction_type == TransactionType::SystemError)
            .collect();
        assert_eq!(errors.len(), 1, "told of once");
        let sentence = errors[0].new_value.as_deref().unwrap();
        assert!(sentence.starts_with("nothing is sent at Tessera-Depth 5"), "{sentence}");
        assert!(why_of(&plan, "Call").contains("Tessera-Depth"), "{}", why_of(&plan, "Call"));
        assert_folds(&[], &plan);
    }
}

#[test]
fn a_template_cannot_say_another_depth() {
    use crate::models::delivery::{DEPTH_HEADER, Payload};
    let config = json!({"url": "https://hooks.example/in", "headers": {"tessera-depth": "0"}});
    assert!(Action::compile("Webhook", &config).is_err(), "the header is Tessera's");
    let plan = create_at(&outspoken(), 2);
    let Payload::Email(mail) = &plan.deliveries[0].payload else { panic!("no mail") };
    assert_eq!(mail.headers.keys().filter(|name| name.eq_ignore_ascii_case(DEPTH_HEADER)).count(), 1);
}
