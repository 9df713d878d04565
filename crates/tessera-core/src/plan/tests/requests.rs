//! The request's own changes.

use super::*;
use crate::error::{Code, Kind};
use crate::plan::command::Difference;
use std::collections::BTreeSet;

#[test]
fn a_create_is_one_transaction_that_holds_the_whole_first_state() {
    let catalog = Desk::new().open();
    let plan = create(
        &catalog,
        CreateTicket {
            owner: Some("ann".to_owned()),
            priority: Some(5),
            requestors: vec![
                "eve@example.net".to_owned(),
                "ann@desk.example".to_owned(),
                "EVE@example.net".to_owned(),
            ],
            custom_fields: BTreeMap::from([
                ("severity".to_owned(), vec!["HIGH".to_owned()]),
                ("Components".to_owned(), vec!["web".to_owned(), "db".to_owned()]),
            ]),
            content: Some(text("It burns.")),
            ..new_ticket()
        },
    )
    .unwrap();
    assert_eq!(history(&plan), ["Create"]);
    let ticket = &plan.ticket;
    assert_eq!(
        (ticket.status.as_str(), ticket.status_class, ticket.version),
        ("new", StatusClass::Initial, 1)
    );
    assert_eq!(ticket.values_of(CustomFieldId(id(300))), ["high"]);
    assert_eq!(ticket.requestors.len(), 2, "the same address in capitals is the same person");
    assert_eq!(ticket.requestors[1].user, Some(UserId(id(11))), "an address of a user is the user");
    assert_eq!(plan.transactions[0].content.as_ref().unwrap().body, "It burns.");
    assert_eq!((plan.rows.values_in.len(), plan.rows.watchers_in.len()), (3, 2));
    assert_folds(&[], &plan);
}

#[test]
fn what_people_type_is_composed_and_without_blanks_around_it() {
    let catalog = Desk::new().open();
    let values = |word: &str| BTreeMap::from([(" note ".to_owned(), vec![word.to_owned()])]);
    let typed = CreateTicket {
        queue: " Support".to_owned(),
        subject: " \u{a0}Bu\u{308}ro ".to_owned(),
        owner: Some(" ann\n".to_owned()),
        requestors: vec![" eve@example.net ".to_owned()],
        custom_fields: values("A1\n"),
        ..new_ticket()
    };
    let ticket = create(&catalog, typed).unwrap().ticket;
    assert_eq!((ticket.subject.as_str(), ticket.owner), ("B\u{fc}ro", Some(UserId(id(11)))));
    assert_eq!(ticket.values_of(CustomFieldId(id(302))), ["A1"]);
    let to = |subject: &str| UpdateTicket { subject: Some(subject.to_owned()), ..UpdateTicket::default() };
    let same = update(&catalog, &ticket, to("B\u{fc}ro\u{3000}")).unwrap();
    assert!(same.transactions.is_empty(), "it has that subject");
    for nothing in ["   ", "\u{3000}", "\u{200b}"] {
        let refused = update(&catalog, &ticket, to(nothing)).unwrap_err();
        assert_eq!(refused.faults()[0].field, "subject");
        let emptied = UpdateTicket {
            custom_fields: BTreeMap::from([(
                "Note".to_owned(),
                FieldChange::Replace(vec![nothing.to_owned()]),
            )]),
            comment: Some(text(nothing)),
            ..UpdateTicket::default()
        };
        let refused = update(&catalog, &ticket, emptied).unwrap_err();
        let fields: Vec<_> = refused.faults().iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["comment", "custom_fields.Note"]);
    }
    let removed = FieldChange::Difference(Difference { add: Vec::new(), remove: vec!["a1 ".to_owned()] });
    let removed = UpdateTicket {
        custom_fields: BTreeMap::from([("Note".to_owned(), removed)]),
        ..UpdateTicket::default()
    };
    assert!(update(&catalog, &ticket, removed).unwrap().ticket.values_of(CustomFieldId(id(302))).is_empty());
}

#[test]
fn a_create_in_an_inactive_status_is_started_and_resolved() {
    let catalog = Desk::new().open();
    let plan =
        create(&catalog, CreateTicket { status: Some("resolved".to_owned()), ..new_ticket() }).unwrap();
    assert_eq!((plan.ticket.started_at, plan.ticket.resolved_at), (Some(NOW), Some(NOW)));
    assert_folds(&[], &plan);
}

#[test]
fn changes_come_in_one_order_whatever_the_request_says_first() {
    let catalog = Desk::new().open();
    let made = create(&catalog, new_ticket()).unwrap();
    let plan = update(
        &catalog,
        &made.ticket,
        UpdateTicket {
            comment: Some(text("for us")),
            reply: Some(text("for you")),
            status: Some("resolved".to_owned()),
            owner: Some(Some("bob".to_owned())),
            subject: Some("Printer drowned".to_owned()),
            priority: Some(9),
            due_at: Some(Some(NOW)),
            watchers: BTreeMap::from([
                (Role::Cc, Difference { add: vec!["c@example.net".to_owned()], remove: Vec::new() }),
                (Role::Requestor, Difference { add: vec!["r@example.net".to_owned()], remove: Vec::new() }),
            ]),
            custom_fields: BTreeMap::from([
                ("Note".to_owned(), replace(&["wet"])),
                ("Components".to_owned(), replace(&["mail"])),
                ("Severity".to_owned(), replace(&["low"])),
            ]),
            ..UpdateTicket::default()
        },
    )
    .unwrap();
    insta::assert_snapshot!(history(&plan).join("\n"), @r"
    Correspond
    Set Told () -> 2026-11-23T11:00:00.123456Z *
    Comment
    Status new -> resolved
    Set Started () -> 2026-11-23T11:00:00.123456Z *
    Set Resolved () -> 2026-11-23T11:00:00.123456Z *
    Set Owner Nobody -> bob
    Set Subject Printer on fire -> Printer drowned
    Set Priority 0 -> 9
    Set Due () -> 2026-11-23T10:00:00.123456Z
    AddWatcher Requestor () -> r@example.net
    AddWatcher Cc () -> c@example.net
    CustomField Severity () -> low
    CustomField Components () -> mail
    CustomField Note () -> wet
    ");
    assert_eq!(plan.ticket.version, 16);
    assert_folds(&[&made], &plan);
}

#[test]
fn what_is_as_it_is_asked_to_be_makes_no_transaction() {
    let catalog = Desk::new().open();
    let made = create(&catalog, new_ticket()).unwrap();
    let same = UpdateTicket {
        subject: Some(made.ticket.subject.clone()),
        status: Some("NEW".to_owned()),
        owner: Some(None),
        queue: Some("support".to_owned()),
        priority: Some(0),
        due_at: Some(None),
        custom_fields: BTreeMap::from([("Severity".to_owned(), replace(&[]))]),
        ..UpdateTicket::default()
    };
    let plan = update(&catalog, &made.ticket, same).unwrap();
    assert_eq!(plan.transactions, []);
    assert_eq!(plan.ticket, made.ticket);
}

#[test]
fn a_single_value_gives_way_in_one_line_and_many_change_by_their_difference() {
    let catalog = Desk::new().open();
    let fields = BTreeMap::from([
        ("Severity".to_owned(), vec!["low".to_owned()]),
        ("Components".to_owned(), vec!["web".to_owned(), "db".to_owned()]),
    ]);
    let made = create(&catalog, CreateTicket { custom_fields: fields, ..new_ticket() }).unwrap();
    let change = UpdateTicket {
        custom_fields: BTreeMap::from([
            ("Severity".to_owned(), replace(&["high"])),
            ("Components".to_owned(), replace(&["mail", "web"])),
        ]),
        ..UpdateTicket::default()
    };
    let plan = update(&catalog, &made.ticket, change).unwrap();
    assert_eq!(
        history(&plan),
        [
            "CustomField Severity low -> high",
            "CustomField Components db -> ()",
            "CustomField Components () -> mail"
        ]
    );
    assert_eq!(plan.rows.values_out.len(), 2);
    assert_folds(&[&made], &plan);
}

#[test]
fn a_queue_move_maps_the_status_and_checks_the_transition_from_the_mapped_one() {
    let catalog = Desk::new().open();
    let fields = BTreeMap::from([("Note".to_owned(), vec!["kept, hidden".to_owned()])]);
    let made = create(&catalog, CreateTicket { custom_fields: fields, ..new_ticket() }).unwrap();
    let to_billing = |status: Option<&str>| UpdateTicket {
        queue: Some("Billing".to_owned()),
        status: status.map(str::to_owned),
        ..UpdateTicket::default()
    };
    let plan = update(&catalog, &made.ticket, to_billing(Some("open"))).unwrap();
    assert_eq!(
        history(&plan),
        [
            "Set Queue Support -> Billing",
            "Status new -> waiting",
            "Status waiting -> open",
            "Set Started () -> 2026-11-23T11:00:00.123456Z *"
        ]
    );
    assert_eq!(plan.ticket.values_of(CustomFieldId(id(302))), ["kept, hidden"]);
    assert_folds(&[&made], &plan);

    let denied = update(&catalog, &made.ticket, to_billing(Some("paid"))).unwrap_err();
    assert_eq!(
        (denied.code(), denied.allowed().unwrap()),
        (Code::TransitionDenied, &["open".to_owned()][..])
    );

    let resolved = update(&catalog, &made.ticket, status("resolved")).unwrap();
    assert_eq!(update(&catalog, &resolved.ticket, to_billing(None)).unwrap_err().code(), Code::NoStatusMap);
    // What the request says about the new queue is not measured by the old one.
    let fields = BTreeMap::from([("Severity".to_owned(), replace(&["odd"]))]);
    let more = UpdateTicket { custom_fields: fields, ..to_billing(Some("paid")) };
    assert_eq!(update(&catalog, &resolved.ticket, more).unwrap_err().code(), Code::NoStatusMap);
    let nowhere = UpdateTicket { queue: Some("Biling".to_owned()), ..to_billing(Some("paid")) };
    let nowhere = update(&catalog, &made.ticket, nowhere).unwrap_err();
    assert!(nowhere.to_string().contains("Biling"), "{nowhere}");
}

#[test]
fn a_field_is_named_once_in_whatever_spelling() {
    let catalog = Desk::new().open();
    let severity = id(300).to_string();
    for other in ["severity", "SEVERITY", &severity] {
        for value in ["low", "none of these"] {
            let twice = [("Severity", value), (other, value)];
            let values = twice.map(|(name, value)| (name.to_owned(), vec![value.to_owned()]));
            let create = create(&catalog, CreateTicket { custom_fields: values.into(), ..new_ticket() });
            let made = super::create(&catalog, new_ticket()).unwrap();
            let changes = twice.map(|(name, value)| (name.to_owned(), replace(&[value])));
            let change = UpdateTicket { custom_fields: changes.into(), ..UpdateTicket::default() };
            for refused in [create.unwrap_err(), update(&catalog, &made.ticket, change).unwrap_err()] {
                let told =
                    refused.faults().iter().find(|fault| fault.message.contains("is the same field as"));
                assert!(told.unwrap().message.ends_with("; name it once"), "{other} {value}: {refused:?}");
            }
        }
    }
}

#[test]
fn nobody_and_no_value_is_added_and_removed_at_once() {
    let catalog = Desk::new().open();
    let made = create(&catalog, new_ticket()).unwrap();
    let difference = |add: &str, remove: &str| Difference {
        add: vec!["bob".to_owned(), add.to_owned()],
        remove: vec!["z@example.net".to_owned(), remove.to_owned()],
    };
    for (add, remove) in [
        ("x@example.net", "x@example.net"),
        ("x@example.net", " X@Example.net "),
        ("x@example.net", "Eve <x@example.net>"),
        ("ann", "ANN"),
        ("ann", "ann@desk.example"),
        ("\"Ann\" <ann@desk.example>", "ann"),
    ] {
        for role in Role::ALL {
            let watchers = BTreeMap::from([(role, difference(add, remove))]);
            let change = UpdateTicket { watchers, ..UpdateTicket::default() };
            let refused = update(&catalog, &made.ticket, change).unwrap_err();
            assert_eq!(refused.faults().len(), 1, "{add} {remove}: {refused:?}");
            assert!(refused.faults()[0].message.ends_with("; name each person once"), "{refused:?}");
        }
    }
    let values = |add: &str, remove: &str| {
        let owned = |word: &str| vec![word.to_owned()];
        let change = FieldChange::Difference(Difference { add: owned(add), remove: owned(remove) });
        let custom_fields = BTreeMap::from([("Components".to_owned(), change)]);
        update(&catalog, &made.ticket, UpdateTicket { custom_fields, ..UpdateTicket::default() })
    };
    assert_eq!(values("web", "db").unwrap().ticket.values_of(CustomFieldId(id(301))), ["web"]);
    for (add, remove) in [("web", "web"), ("web", "WEB"), ("WEB", "web")] {
        let message = values(add, remove).unwrap_err().faults()[0].message.clone();
        assert_eq!(message, "\"web\" is both added and removed; name it once");
    }
}

#[test]
fn a_person_may_be_named_with_the_name_beside_the_address() {
    let catalog = Desk::new().open();
    let named = |word: &str| vec![word.to_owned()];
    let plan = create(
        &catalog,
        CreateTicket {
            requestors: named("\"Bar, Foo\" <foo@example.com>"),
            cc: named("<ann@desk.example>"),
            ..new_ticket()
        },
    )
    .unwrap();
    assert_eq!(plan.ticket.requestors[0].address.as_deref(), Some("foo@example.com"));
    assert_eq!(plan.ticket.cc[0].user, Some(UserId(id(11))));
    let command = Command::Create(CreateTicket { cc: named("Foo <foo@example.com>"), ..new_ticket() });
    assert_eq!(command.people(), ["foo@example.com"], "the load looks for the address");
    let refused = create(&catalog, CreateTicket { cc: named("Foo <foo>"), ..new_ticket() }).unwrap_err();
    assert!(refused.faults()[0].message.contains("neither a user nor a mail address"), "{refused:?}");
}

#[test]
fn reopening_keeps_resolved_and_closing_again_sets_it_anew() {
    let catalog = Desk::new().open();
    let made =
        create(&catalog, CreateTicket { status: Some("resolved".to_owned()), ..new_ticket() }).unwrap();
    let reopened = update(&catalog, &made.ticket, status("open")).unwrap();
    assert_eq!(history(&reopened), ["Status resolved -> open"]);
    assert_eq!(reopened.ticket.resolved_at, Some(NOW));
    let rejected = update(&catalog, &reopened.ticket, status("rejected")).unwrap();
    assert_eq!(rejected.ticket.resolved_at, Some(NOW + time::Duration::hours(1)));
    assert_folds(&[&made, &reopened], &rejected);
}

#[test]
fn a_request_is_refused_once_with_everything_that_is_wrong_and_what_exists() {
    let catalog = Desk::new().open();
    let error = create(
        &catalog,
        CreateTicket {
            subject: " ".to_owned(),
            owner: Some("nobody-knows".to_owned()),
            requestors: vec!["not an address".to_owned()],
            custom_fields: BTreeMap::from([
                ("Severity".to_owned(), vec!["urgent".to_owned()]),
                ("Color".to_owned(), vec!["red".to_owned()]),
            ]),
            content: Some(text("a\0b")),
            ..new_ticket()
        },
    )
    .unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    let faults: Vec<_> =
        error.faults().iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
    insta::assert_snapshot!(faults.join("\n"));
    let error = create(&catalog, CreateTicket { queue: "Nowhere".to_owned(), ..new_ticket() }).unwrap_err();
    assert_eq!(
        error.faults()[0].message,
        r#"there is no queue "Nowhere"; existing queues: "Support" and "Billing""#
    );
    let mut desk = Desk::new();
    let disabled = Queue { disabled: true, ..(*desk.parts.queues[1]).clone() };
    desk.parts.queues[1] = Arc::new(disabled);
    let error =
        create(&desk.open(), CreateTicket { queue: "billing".to_owned(), ..new_ticket() }).unwrap_err();
    assert_eq!(error.faults()[0].message, r#"the queue "Billing" is disabled; enabled queues: "Support""#);
}

#[test]
fn nothing_is_half_applied_when_one_of_many_changes_is_refused() {
    let catalog = Desk::new().open();
    let made = create(&catalog, new_ticket()).unwrap();
    let change =
        UpdateTicket { status: Some("nonsense".to_owned()), priority: Some(3), ..UpdateTicket::default() };
    let error = update(&catalog, &made.ticket, change).unwrap_err();
    assert_eq!(error.faults()[0].field, "status");
}

#[test]
fn rights_are_asked_of_the_person_and_not_of_scrips() {
    let catalog = Desk::new()
        .scrip("Raise", ("OnComment", json!({})), ("SetPriority", json!({"value": "7"})), json!({}))
        .open();
    let made = create(&catalog, new_ticket()).unwrap();
    let with = |rights: &[&str], command| {
        let ticket = Target::Existing(Box::new(made.ticket.clone()));
        let situation = Situation { ticket, people: People::default(), messages: Vec::new() };
        let access = Access::Only(rights.iter().map(|right| (*right).to_owned()).collect::<BTreeSet<_>>());
        prepare(&catalog, &situation, &Command::Update(command), &Context { access, ..context(2) })
    };
    let comment = || UpdateTicket { comment: Some(text("hm")), ..UpdateTicket::default() };
    let field = || UpdateTicket {
        custom_fields: BTreeMap::from([("Note".to_owned(), replace(&["x"]))]),
        ..UpdateTicket::default()
    };
    let table = [
        ("CommentOnTicket", comment()),
        ("ReplyToTicket", UpdateTicket { reply: Some(text("hm")), ..UpdateTicket::default() }),
        ("ModifyTicket", status("open")),
        ("DeleteTicket", status("deleted")),
        ("ModifyTicket", UpdateTicket { priority: Some(1), ..UpdateTicket::default() }),
        ("ModifyTicket", UpdateTicket { subject: Some("x".to_owned()), ..UpdateTicket::default() }),
        ("ModifyTicket", UpdateTicket { owner: Some(Some("ann".to_owned())), ..UpdateTicket::default() }),
        ("ModifyCustomField", field()),
    ];
    for (right, command) in table {
        let denied = with(&[], command.clone()).unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied, "{right}");
        assert!(denied.detail().contains(right), "{denied} names {right}");
        assert!(with(&[right], command).is_ok(), "{right} suffices");
    }
    let plan = with(&["CommentOnTicket"], comment()).unwrap();
    assert_eq!(plan.ticket.priority, 7, "the scrip acts for the configuration");
}
