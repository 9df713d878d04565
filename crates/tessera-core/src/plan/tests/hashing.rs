//! The plan's hash, determinism, and properties over random requests.

use super::*;
use crate::plan::command::Difference;
use proptest::prelude::*;

/// Contains every kind of value that differs between two plans for the same request.
const VOLATILE: &str = "{{ now }} {{ ticket.number }} {{ ticket.url }} {{ ticket.created_at }} {{ transaction.id }} {{ ticket.updated_at }}";

fn volatile_desk() -> Catalog {
    Desk::new()
        .template("T", "{{ ticket.number }}", VOLATILE)
        .scrip(
            "Mail",
            ("OnTransaction", json!({})),
            ("SendEmail", json!({"to": ["requestor", "t-{{ ticket.number }}@example.net"]})),
            json!({"template": "T"}),
        )
        .scrip(
            "Hook",
            ("OnTransaction", json!({})),
            ("Webhook", json!({"url": "https://hooks.example/{{ ticket.number }}"})),
            json!({}),
        )
        .scrip(
            "Note",
            ("OnCreate", json!({})),
            ("SetCustomField", json!({"field": "Note", "value": VOLATILE})),
            json!({}),
        )
        .scrip(
            "Asked",
            ("OnCreate", json!({"query": "NOT id > 0 AND Created = now AND Actor = admin"})),
            ("SetPriority", json!({"value": "3"})),
            json!({}),
        )
        .scrip("Due", ("OnCreate", json!({})), ("SetDue", json!({"value": "{{ now }}"})), json!({}))
        .scrip(
            "Subject",
            ("OnCreate", json!({})),
            ("SetSubject", json!({"value": "T{{ ticket.number }}"})),
            json!({"stage": "TransactionBatch"}),
        )
        .open()
}

#[test]
fn a_create_has_the_hash_of_its_preview_whatever_number_ids_and_time_it_gets() {
    let catalog = volatile_desk();
    let command =
        Command::Create(CreateTicket { requestors: vec!["eve@example.net".to_owned()], ..new_ticket() });
    let plan = |number, seed, minutes| {
        let situation =
            Situation { ticket: Target::New { number }, people: People::default(), messages: Vec::new() };
        let mut context = context(seed);
        context.now += time::Duration::minutes(minutes);
        prepare(&catalog, &situation, &command, &context).unwrap()
    };
    let (preview, made) = (plan(None, 1, 0), plan(Some(77), 2, 5));
    let went = |one: &crate::scrip::evaluation::Evaluation| {
        matches!(one.verdict, Verdict::Fired | Verdict::Declined)
    };
    assert!(preview.evaluations.iter().all(went), "{:?}", verdicts(&preview));
    assert_eq!(preview.hash, made.hash);
    assert_eq!(made.ticket.subject, "T77");
    assert_eq!(preview.ticket.subject, "Tnew");
}

#[test]
fn the_hash_of_an_update_differs_with_every_effect() {
    let catalog = volatile_desk();
    let made = create(&catalog, new_ticket()).unwrap();
    let base = UpdateTicket { priority: Some(3), ..UpdateTicket::default() };
    let hash = |command: &UpdateTicket| update(&catalog, &made.ticket, command.clone()).unwrap().hash;
    let others = [
        UpdateTicket { priority: Some(4), ..base.clone() },
        UpdateTicket { subject: Some("z".to_owned()), ..base.clone() },
        UpdateTicket { comment: Some(text("a")), ..base.clone() },
        UpdateTicket { comment: Some(text("b")), ..base.clone() },
        UpdateTicket { owner: Some(Some("ann".to_owned())), ..base.clone() },
        UpdateTicket {
            watchers: BTreeMap::from([(
                Role::Cc,
                Difference { add: vec!["c@example.net".to_owned()], remove: Vec::new() },
            )]),
            ..base.clone()
        },
    ];
    let mut hashes: Vec<_> = others.iter().chain([&base]).map(|command| hash(command).to_string()).collect();
    assert_eq!(hashes[6], hash(&base).to_string());
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 7);
}

#[test]
fn an_update_has_the_hash_of_its_preview_whenever_it_is_made() {
    let catalog = Desk::new()
        .template("T", "s", "{% for one in batch %}{{ one.description }} {{ one.new_value }}\n{% endfor %}")
        .scrip(
            "Batch",
            ("OnStatusChange", json!({})),
            ("SendEmail", json!({"to": ["x@example.net"]})),
            json!({"template": "T", "stage": "TransactionBatch"}),
        )
        .scrip(
            "Hook",
            ("OnStatusChange", json!({})),
            ("Webhook", json!({"url": "https://hooks.example"})),
            json!({"stage": "TransactionBatch"}),
        )
        .open();
    let made = create(&catalog, new_ticket()).unwrap();
    let command = Command::Update(UpdateTicket { reply: Some(text("done")), ..status("resolved") });
    let hash = |seed, minutes| {
        let ticket = Target::Existing(Box::new(made.ticket.clone()));
        let situation = Situation { ticket, people: People::default(), messages: Vec::new() };
        let mut context = context(seed);
        context.now += time::Duration::minutes(minutes);
        let plan = prepare(&catalog, &situation, &command, &context).unwrap();
        assert_eq!(plan.deliveries.len(), 2);
        plan.hash
    };
    assert_eq!(hash(1, 1), hash(2, 99));
}

#[test]
fn a_changed_template_changes_the_hash() {
    let desk = |body: &str| {
        Desk::new()
            .template("T", "s", body)
            .scrip(
                "Mail",
                ("OnCreate", json!({})),
                ("SendEmail", json!({"to": ["x@example.net"]})),
                json!({"template": "T"}),
            )
            .open()
    };
    assert_ne!(
        create(&desk("one"), new_ticket()).unwrap().hash,
        create(&desk("two"), new_ticket()).unwrap().hash
    );
}

fn words(max: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>().prop_filter("no control characters", |c| !c.is_control()), 1..max)
        .prop_map(|letters| letters.into_iter().collect::<String>())
        .prop_filter("not blank", |text| !text.trim().is_empty())
}

fn any_update() -> impl Strategy<Value = UpdateTicket> {
    const STATUSES: [&str; 8] =
        ["new", "open", "stalled", "resolved", "rejected", "deleted", "waiting", "paid"];
    let status = proptest::option::of(proptest::sample::select(&STATUSES[..]));
    let queue = proptest::option::of(proptest::sample::select(&["Support", "Billing"][..]));
    let owner = proptest::option::of(proptest::option::of(proptest::sample::select(&["ann", "bob"][..])));
    let component = || proptest::collection::vec(proptest::sample::select(&["web", "mail", "db"][..]), 0..3);
    let message = || proptest::option::of(words(20).prop_map(|body| text(&body)));
    let person = || {
        proptest::collection::vec(
            proptest::sample::select(&["a@example.net", "b@example.net", "ann"][..]),
            0..2,
        )
    };
    (
        status,
        queue,
        owner,
        (component(), component()),
        proptest::option::of(words(40)),
        proptest::option::of(any::<i32>()),
        (message(), message()),
        (person(), person()),
    )
        .prop_map(
            |(status, queue, owner, (add, remove), subject, priority, (comment, reply), (come, go))| {
                let owned = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect::<Vec<_>>();
                UpdateTicket {
                    status: status.map(str::to_owned),
                    queue: queue.map(str::to_owned),
                    owner: owner.map(|owner| owner.map(str::to_owned)),
                    subject,
                    priority,
                    comment,
                    reply,
                    watchers: BTreeMap::from([(
                        Role::Requestor,
                        Difference { add: owned(come), remove: owned(go) },
                    )]),
                    custom_fields: BTreeMap::from([(
                        "Components".to_owned(),
                        FieldChange::Difference(Difference { add: owned(add), remove: owned(remove) }),
                    )]),
                    ..UpdateTicket::default()
                }
            },
        )
}

/// A configuration whose scrips respond to nearly everything, some of them to each other.
fn busy_desk() -> Catalog {
    Desk::new()
        .template("T", "{{ ticket.subject }}", "{{ transaction.description }} {{ now }}")
        .scrip(
            "Mail",
            ("OnTransaction", json!({})),
            ("SendEmail", json!({"to": ["requestor", "owner"]})),
            json!({"template": "T"}),
        )
        .scrip(
            "Reopen",
            ("OnCorrespond", json!({})),
            ("SetStatus", json!({"status": "active", "from": ["inactive"]})),
            json!({}),
        )
        .scrip("Up", ("OnStatusChange", json!({})), ("SetPriority", json!({"value": "9"})), json!({}))
        .scrip("Down", ("OnPriorityChange", json!({})), ("SetPriority", json!({"value": "1"})), json!({}))
        .scrip(
            "Owner",
            ("OnOwnerChange", json!({})),
            ("AddWatcher", json!({"role": "cc", "who": "{{ ticket.owner.email }}"})),
            json!({}),
        )
        .scrip(
            "Tag",
            ("OnStatusChange", json!({"to": "inactive"})),
            ("SetCustomField", json!({"field": "Components", "value": "db", "mode": "add"})),
            json!({"stage": "TransactionBatch"}),
        )
        .open()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// I2, I4, I13, and the diff of rows, over random sequences of requests.
    #[test]
    fn random_requests_fold_to_the_ticket_stay_in_the_lifecycle_and_plan_the_same_twice(
        commands in proptest::collection::vec(any_update(), 1..8)
    ) {
        let catalog = busy_desk();
        let mut plans = vec![create(&catalog, new_ticket()).unwrap()];
        for command in commands {
            let ticket = plans.last().unwrap().ticket.clone();
            let Ok(plan) = update(&catalog, &ticket, command.clone()) else { continue };
            let again = update(&catalog, &ticket, command).unwrap();
            prop_assert_eq!(format!("{plan:?}"), format!("{again:?}"));
            let lifecycle = catalog.lifecycle_of(plan.ticket.queue).unwrap();
            prop_assert_eq!(lifecycle.class_of(&plan.ticket.status), Some(plan.ticket.status_class));
            for transaction in &plan.transactions {
                if let Change::Status { old, new, mapped: false, lifecycle_version, .. } = &transaction.change {
                    let lifecycle = catalog.lifecycles.iter().find(|one| one.version_id() == *lifecycle_version).unwrap();
                    prop_assert!(lifecycle.transition(old, new).is_ok(), "{} -> {}", old, new);
                }
            }
            prop_assert_eq!(past_passes(&plan.transactions, &plan.evaluations), &plan.passes[..]);
            prop_assert!(plan.deliveries.len() <= DELIVERIES_MAX);
            let refs: Vec<&Plan> = plans.iter().collect();
            assert_folds(&refs, &plan);
            plans.push(plan);
        }
    }
}
