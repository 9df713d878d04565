//! Names, causes and limits of changes, and lookups in a catalog.

use super::*;
use crate::error::Code;
use crate::models::custom_field::COUNT_MAX;
use crate::plan::command::Difference;

fn watchers(role: Role, add: &[&str], remove: &[&str]) -> UpdateTicket {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let difference = Difference { add: owned(add), remove: owned(remove) };
    UpdateTicket { watchers: BTreeMap::from([(role, difference)]), ..UpdateTicket::default() }
}

/// Plans an update by a user other than the administrator.
fn update_by(actor: User, catalog: &Catalog, ticket: &Ticket, command: UpdateTicket) -> Plan {
    let ticket = Target::Existing(Box::new(ticket.clone()));
    let situation = Situation { ticket, people: People::default(), messages: Vec::new() };
    prepare(catalog, &situation, &Command::Update(command), &Context { actor, ..context(2) }).unwrap()
}

#[test]
fn who_leaves_is_named_in_the_history_and_who_was_never_there_changes_nothing() {
    let catalog = Desk::new().open();
    let cc = vec!["a@example.net".to_owned(), "ann".to_owned(), "b@example.net".to_owned()];
    let made = create(&catalog, CreateTicket { cc, ..new_ticket() }).unwrap();
    let going = watchers(Role::Cc, &[], &["A@example.net", "ann", "z@example.net"]);
    let plan = update(&catalog, &made.ticket, going).unwrap();
    assert_eq!(history(&plan), ["DelWatcher Cc a@example.net -> ()", "DelWatcher Cc ann -> ()"]);
    assert_eq!(plan.rows.watchers_out.len(), 2);
    assert_eq!(plan.ticket.cc, made.ticket.cc[2..]);
    assert_folds(&[&made], &plan);
}

#[test]
fn a_requestor_who_replies_has_not_been_told_anything() {
    let catalog = Desk::new().open();
    let requestors = vec!["ann".to_owned()];
    let made = create(&catalog, CreateTicket { requestors, ..new_ticket() }).unwrap();
    let reply = || UpdateTicket { reply: Some(text("hm")), ..UpdateTicket::default() };
    let by = |actor| history(&update_by(actor, &catalog, &made.ticket, reply()));
    assert_eq!(by(user(11, "ann", true)), ["Correspond"]);
    assert_eq!(by(user(12, "bob", true)).len(), 2);
}

#[test]
fn a_derived_change_is_caused_by_the_change_that_it_follows_from() {
    let catalog = Desk::new().open();
    let made = create(&catalog, new_ticket()).unwrap();
    let plan = update(&catalog, &made.ticket, status("resolved")).unwrap();
    let [change, started, resolved] = plan.transactions.as_slice() else { panic!("{:?}", history(&plan)) };
    assert_eq!(change.caused_by, None);
    assert_eq!((started.caused_by, resolved.caused_by), (Some(change.id), Some(change.id)));
}

#[test]
fn a_due_time_that_moves_says_from_when() {
    let catalog = Desk::new().open();
    let made = create(&catalog, CreateTicket { due_at: Some(NOW), ..new_ticket() }).unwrap();
    let plan = update(&catalog, &made.ticket, UpdateTicket { due_at: Some(None), ..UpdateTicket::default() });
    assert_eq!(history(&plan.unwrap()), ["Set Due 2026-11-23T10:00:00.123456Z -> ()"]);
}

#[test]
fn who_may_not_own_is_told_so_and_who_is_unknown_is_told_who_may() {
    let mut desk = Desk::new();
    desk.parts.agents.push(Arc::new(User { disabled: true, ..user(13, "dan", true) }));
    let catalog = desk.open();
    let made = create(&catalog, new_ticket()).unwrap();
    let refusal = |owner: &str| {
        let ticket = Target::Existing(Box::new(made.ticket.clone()));
        let people = [user(21, "eve", false)].into_iter().collect();
        let situation = Situation { ticket, people, messages: Vec::new() };
        let command = UpdateTicket { owner: Some(Some(owner.to_owned())), ..UpdateTicket::default() };
        let refused = prepare(&catalog, &situation, &Command::Update(command), &context(2)).unwrap_err();
        refused.faults()[0].message.clone()
    };
    for known in ["eve", "dan", "system"] {
        assert!(refusal(known).starts_with(&format!("{known} cannot own tickets")), "{known}");
    }
    assert!(refusal("zoe").ends_with("these can own tickets: \"admin\", \"ann\" and \"bob\""));
}

#[test]
fn a_change_of_a_field_names_so_many_values_and_no_more() {
    let catalog = Desk::new().open();
    let made = create(&catalog, new_ticket()).unwrap();
    let change = |change: FieldChange| {
        let custom_fields = BTreeMap::from([("Components".to_owned(), change)]);
        update(&catalog, &made.ticket, UpdateTicket { custom_fields, ..UpdateTicket::default() })
    };
    let words = |word: &str, count: u32| vec![word.to_owned(); count as usize];
    let web = |count: u32| words("web", count);
    let plan = change(FieldChange::Replace(web(COUNT_MAX))).unwrap();
    assert_eq!(plan.ticket.values_of(CustomFieldId(id(301))), ["web"], "each value is kept once");
    assert!(change(FieldChange::Replace(web(COUNT_MAX + 1))).is_err());
    let both =
        |add, remove| FieldChange::Difference(Difference { add: web(add), remove: words("db", remove) });
    assert!(change(both(COUNT_MAX - 1, 1)).is_ok());
    let refused = change(both(COUNT_MAX, 1)).unwrap_err();
    assert_eq!(refused.faults()[0].message, "names 1001 values; at most 1000 are allowed");
}

#[test]
fn who_made_a_ticket_is_known_by_name_although_no_agent() {
    let catalog = Desk::new()
        .scrip(
            "Sign",
            ("OnComment", json!({})),
            ("SetSubject", json!({"value": "by {{ ticket.creator.username }}"})),
            json!({}),
        )
        .open();
    let eve = user(21, "eve", false);
    let situation =
        Situation { ticket: Target::New { number: None }, people: People::default(), messages: Vec::new() };
    let context = Context { actor: eve.clone(), ..context(1) };
    let made = prepare(&catalog, &situation, &Command::Create(new_ticket()), &context).unwrap();
    let comment = UpdateTicket { comment: Some(text("hm")), ..UpdateTicket::default() };
    assert_eq!(update_by(eve, &catalog, &made.ticket, comment).ticket.subject, "by eve");
}

#[test]
fn a_command_names_everybody_whom_the_load_must_look_up() {
    let create = CreateTicket {
        owner: Some("ann".to_owned()),
        requestors: vec!["r".to_owned()],
        cc: vec!["c".to_owned()],
        admin_cc: vec!["a".to_owned()],
        ..new_ticket()
    };
    assert_eq!(Command::Create(create).people(), ["r", "c", "a", "ann"]);
    let update = UpdateTicket { owner: Some(Some("bob".to_owned())), ..watchers(Role::Cc, &["x"], &["y"]) };
    assert_eq!(Command::Update(update).people(), ["x", "y", "bob"]);
}

#[test]
fn past_messages_are_loaded_where_any_text_speaks_of_them() {
    const ALL: &str = "{% for one in messages %}{{ one.content }}{% endfor %}";
    let set = |value: &str| {
        let action = ("SetSubject", json!({ "value": value }));
        Desk::new().scrip("Set", ("OnComment", json!({})), action, json!({})).open()
    };
    let comment = Command::Update(UpdateTicket { comment: Some(text("hm")), ..UpdateTicket::default() });
    let queues = |catalog: &Catalog, command: &Command| catalog.message_queues(command).len();
    assert_eq!(queues(&set("{{ ticket.subject }}"), &comment), 0);
    assert_eq!(queues(&set(ALL), &comment), 2);
    assert_eq!(queues(&set(ALL), &Command::Update(status("open"))), 0);
    assert_eq!(queues(&set(ALL), &Command::Create(new_ticket())), 0, "a new ticket has none");

    // A template that no scrip uses costs nothing, nor does one of a disabled scrip.
    let mail = |more: Value| {
        let action = ("SendEmail", json!({"to": ["x@example.net"]}));
        let desk = Desk::new().template("T", "s", ALL).template("Plain", "s", "b");
        desk.scrip("Mail", ("OnComment", json!({})), action, more)
    };
    assert_eq!(queues(&mail(json!({"template": "Plain"})).open(), &comment), 0);
    assert_eq!(queues(&mail(json!({"template": "T", "state": "disabled"})).open(), &comment), 0);
    assert_eq!(queues(&mail(json!({"template": "T", "state": "shadow"})).open(), &comment), 2);
    assert_eq!(queues(&mail(json!({"template": "T", "stage": "TransactionBatch"})).open(), &comment), 2);

    // A scrip may make the transaction that starts the pass; one that moves the ticket starts those of another queue.
    let action = ("AddComment", json!({"content": "x"}));
    let chain =
        mail(json!({"template": "T"})).scrip("Note", ("OnStatusChange", json!({})), action, json!({}));
    let chain = chain.open();
    assert_eq!(queues(&chain, &Command::Update(status("open"))), 2);
    assert_eq!(
        queues(&chain, &Command::Update(UpdateTicket { priority: Some(1), ..UpdateTicket::default() })),
        0
    );
    let moves = |to: &str| UpdateTicket { queue: Some(to.to_owned()), ..UpdateTicket::default() };
    assert_eq!(queues(&chain, &Command::Update(moves("Billing"))), 2);
}

#[test]
fn an_attachment_to_the_queue_itself_decides_and_one_to_another_queue_means_nothing() {
    let attached = |places: &[(Option<u128>, Stage, i32)]| {
        let raise = ("SetPriority", json!({"value": "7"}));
        let mut desk = Desk::new().scrip("Raise", ("OnCreate", json!({})), raise, json!({}));
        let scrip = desk.parts.scrips.pop().unwrap();
        let attachments = places.iter().map(|(queue, stage, sort_order)| Attachment {
            queue: queue.map(|n| QueueId(id(n))),
            stage: *stage,
            sort_order: *sort_order,
        });
        let mut scrip = Arc::into_inner(scrip).unwrap();
        scrip.attachments = attachments.collect();
        desk.parts.scrips.push(Arc::new(scrip));
        let catalog = desk.open();
        let found = |stage| {
            let candidates = catalog.candidates(QueueId(id(100)), stage, TransactionType::Create);
            candidates.iter().map(|candidate| candidate.sort_order).collect::<Vec<_>>()
        };
        (found(Stage::TransactionCreate), found(Stage::TransactionBatch))
    };
    let (create, batch) = (Stage::TransactionCreate, Stage::TransactionBatch);
    assert_eq!(attached(&[(Some(110), create, 1)]), (vec![], vec![]));
    assert_eq!(attached(&[(None, create, 1), (Some(110), batch, 2)]), (vec![1], vec![]));
    assert_eq!(attached(&[(None, create, 1), (Some(100), batch, 2)]), (vec![], vec![2]));
}

#[test]
fn a_value_goes_in_any_case_and_comes_once() {
    let catalog = Desk::new().open();
    let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let custom_fields = BTreeMap::from([("Components".to_owned(), values(&["web", "db"]))]);
    let made = create(&catalog, CreateTicket { custom_fields, ..new_ticket() }).unwrap();
    let difference = Difference { add: values(&["DB", "mail"]), remove: values(&["WEB"]) };
    let custom_fields = BTreeMap::from([("Components".to_owned(), FieldChange::Difference(difference))]);
    let plan =
        update(&catalog, &made.ticket, UpdateTicket { custom_fields, ..UpdateTicket::default() }).unwrap();
    assert_eq!(plan.ticket.values_of(CustomFieldId(id(301))), ["db", "mail"]);
}

/// Returns the verdicts on a number of scrips with the same action on create, with a template of these headers and this body.
fn rendering(scrips: usize, then: (&str, Value), headers: &[(&str, &str)], body: &str) -> Vec<Verdict> {
    let mut desk = Desk::new().template("T", "{{ ticket.subject }}", body);
    let source = TemplateSource {
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..desk.parts.templates.pop().unwrap().source().clone()
    };
    desk.parts.templates.push(Arc::new(Template::compile(&source).unwrap()));
    for n in 0..scrips {
        let name = format!("Scrip {n}");
        desk = desk.scrip(&name, ("OnCreate", json!({})), then.clone(), json!({"template": "T"}));
    }
    let plan = create(&desk.open(), CreateTicket { subject: "xx".to_owned(), ..new_ticket() }).unwrap();
    plan.evaluations.iter().take(scrips).map(|one| one.verdict).collect()
}

#[test]
fn a_request_renders_so_many_bytes_and_not_one_more() {
    const SCRIPS: usize = 32;
    let each = RENDERED_MAX / SCRIPS;
    let of = |bytes: usize| {
        let (line, tail) = ("x".repeat(bytes / 128), "y".repeat(bytes % 128));
        format!("{{% for n in range(end=128) %}}{line}{{% endfor %}}{tail}")
    };
    let fits = |bytes: usize| {
        let verdicts = rendering(SCRIPS, ("AddComment", json!({"content": of(bytes)})), &[], "");
        verdicts.iter().all(|verdict| *verdict == Verdict::Fired)
    };
    assert!(fits(each), "all of it may be used");
    assert!(!fits(each + 1), "and no more");

    // All of a mail counts: a subject of 2 bytes, headers of 3, the body.
    let headers = [("X-A", "a"), ("X-B", "bb")];
    let fits = |bytes: usize| {
        let to = ("SendEmail", json!({"to": ["x@example.net"]}));
        let verdicts = rendering(SCRIPS, to, &headers, &of(bytes));
        verdicts.iter().all(|verdict| *verdict == Verdict::Fired)
    };
    assert!(fits(each - 5));
    assert!(!fits(each - 4));
}

#[test]
fn a_request_tries_so_many_scrips_on_trial_and_stops_those_beyond() {
    let mut desk = Desk::new();
    for n in 0..SHADOWS_MAX + 2 {
        let raise = ("SetPriority", json!({"value": "7"}));
        desk = desk.scrip(&format!("Trial {n}"), ("OnCreate", json!({})), raise, json!({"state": "shadow"}));
    }
    let plan = create(&desk.open(), new_ticket()).unwrap();
    let count = |verdict| plan.evaluations.iter().filter(|one| one.verdict == verdict).count();
    assert_eq!((count(Verdict::Shadow), count(Verdict::Stopped)), (SHADOWS_MAX, 2));
}

#[test]
fn a_role_takes_so_many_people_and_one_request_names_no_more() {
    use crate::plan::draft::WATCHERS_MAX;
    let catalog = Desk::new().open();
    let people = |from: usize, count: usize| {
        (from..from + count).map(|n| format!("p{n}@example.net")).collect::<Vec<_>>()
    };
    let with = |count| create(&catalog, CreateTicket { cc: people(0, count), ..new_ticket() });
    assert!(with(WATCHERS_MAX + 1).is_err());
    let full = with(WATCHERS_MAX).unwrap();
    let change = |ticket: &Ticket, add: Vec<String>, remove: Vec<String>| {
        let watchers = BTreeMap::from([(Role::Cc, Difference { add, remove })]);
        update(&catalog, ticket, UpdateTicket { watchers, ..UpdateTicket::default() })
    };
    let half = WATCHERS_MAX / 2;
    let swapped = change(&full.ticket, people(500, half), people(0, half)).unwrap();
    assert_eq!(swapped.ticket.cc.len(), WATCHERS_MAX, "as many as may be are named, and as many are left");
    let refused = |result: Result<Plan, crate::Error>| result.unwrap_err().faults()[0].message.clone();
    let named = refused(change(&full.ticket, people(500, half), people(0, half + 1)));
    assert_eq!(named, "names 201 people; at most 200 are allowed");
    assert_eq!(
        refused(change(&full.ticket, people(500, 1), vec![])),
        "already has 200 people, which is the limit"
    );
}

#[test]
fn who_makes_a_ticket_needs_the_right_to() {
    let catalog = Desk::new().open();
    let with = |rights: &[&str]| {
        let situation = Situation {
            ticket: Target::New { number: None },
            people: People::default(),
            messages: Vec::new(),
        };
        let access = Access::Only(rights.iter().map(|right| (*right).to_owned()).collect());
        prepare(&catalog, &situation, &Command::Create(new_ticket()), &Context { access, ..context(1) })
    };
    assert_eq!(with(&["ModifyTicket"]).unwrap_err().code(), Code::PermissionDenied);
    assert!(with(&["CreateTicket"]).is_ok());
}

#[test]
fn what_only_follows_from_a_change_sets_no_scrip_off() {
    let catalog = Desk::new()
        .scrip("Any", ("OnTransaction", json!({})), ("SetPriority", json!({"value": "7"})), json!({}))
        .open();
    let made = create(&Desk::new().open(), new_ticket()).unwrap();
    let plan = update(&catalog, &made.ticket, status("resolved")).unwrap();
    // The status and the priority that the scrip itself set, but neither Started nor Resolved.
    assert_eq!(verdicts(&plan), ["Any: fired", "Any: declined"]);
}

#[test]
fn people_whom_the_load_brought_are_found_by_name_and_address_and_known_by_id() {
    let catalog = Desk::new()
        .scrip(
            "Greet",
            ("OnCreate", json!({})),
            (
                "SetSubject",
                json!({"value": "{{ ticket.requestors[0].name }} {{ ticket.requestor_addresses }}"}),
            ),
            json!({}),
        )
        .open();
    for word in ["EVE", "Eve@desk.example"] {
        let eve = User { name: Some("Eve Poe".to_owned()), ..user(21, "eve", false) };
        let people: People = [eve.clone()].into_iter().collect();
        assert_eq!(people.iter().collect::<Vec<_>>(), [&eve]);
        let situation = Situation { ticket: Target::New { number: None }, people, messages: Vec::new() };
        let create = CreateTicket { requestors: vec![word.to_owned()], ..new_ticket() };
        let plan = prepare(&catalog, &situation, &Command::Create(create), &context(1)).unwrap();
        assert_eq!(plan.ticket.requestors[0].user, Some(eve.id), "{word}");
        assert_eq!(plan.ticket.subject, "Eve Poe eve@desk.example");
    }
}
