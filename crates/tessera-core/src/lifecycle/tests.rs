//! Tables of the transitions that a lifecycle allows and rejects and the rights they need; properties of all lifecycles.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A lifecycle whose id and version follow from `number`.
pub(super) fn lifecycle(number: u128, name: &str, definition: Value) -> Lifecycle {
    compile(number, name, serde_json::from_value(definition).unwrap()).unwrap()
}

fn compile(number: u128, name: &str, definition: Definition) -> Result<Lifecycle, Vec<Fault>> {
    Lifecycle::compile(Uuid::from_u128(number).into(), Uuid::from_u128(number + 100).into(), name, definition)
}

fn support() -> Lifecycle {
    lifecycle(
        1,
        "Support",
        json!({
            "initial": ["New"], "active": ["Open", "Waiting"], "inactive": ["Resolved", "Deleted"],
            "transitions": {"": ["new", "open"], "new": ["open"], "open": ["waiting", "resolved", "deleted"],
                            "waiting": ["open"], "resolved": ["open"]},
            "maps": {"billing": {"new": "received", "open": "open", "waiting": "parked", "resolved": "gone"}}
        }),
    )
}

fn billing() -> Lifecycle {
    lifecycle(
        2,
        "Billing",
        json!({
            "initial": ["received"], "active": ["open"], "inactive": ["parked"],
            "transitions": {"": ["received"], "received": ["open"], "open": ["parked"], "parked": ["open"]},
        }),
    )
}

fn stock() -> Lifecycle {
    compile(3, "default", Definition::stock()).unwrap()
}

#[test]
fn statuses_are_found_in_any_case_and_answered_as_stored() {
    let support = support();
    assert_eq!(support.canonical("rEsOlVeD"), Some("resolved"));
    assert_eq!(support.canonical("gone"), None);
    assert_eq!(support.class_of("WAITING"), Some(StatusClass::Active));
    assert_eq!(support.class_of(""), None);
    assert_eq!(support.transitions_from("Open"), ["waiting", "resolved", "deleted"]);
    assert_eq!(support.transitions_from("deleted"), [""; 0]);
    assert_eq!(support.transitions_from(""), [""; 0]);
    assert_eq!(support.at_create(), ["new", "open"]);
    assert_eq!(support.definition().active, ["Open", "Waiting"]);
}

#[test]
fn a_transition_that_is_allowed_says_all_there_is_to_know() {
    let change = support().transition("New", "OPEN").unwrap();
    assert_eq!((change.old_status(), change.new_status()), ("new", "open"));
    assert_eq!((change.old_class(), change.class()), (StatusClass::Initial, StatusClass::Active));
    assert_eq!(change.lifecycle_version(), support().version_id());
    assert_eq!(change.right(), Some("ModifyTicket"));
    assert!(change.leaves_initial() && !change.enters_inactive() && !change.is_mapped());
    let written = change.into_change();
    let expected = Change::Status {
        old: "new".to_owned(),
        new: "open".to_owned(),
        old_class: StatusClass::Initial,
        class: StatusClass::Active,
        lifecycle_version: support().version_id(),
        mapped: false,
    };
    assert_eq!(written, expected);
}

#[test]
fn a_transition_that_is_not_allowed_is_refused_with_what_is() {
    let table: [(&str, &str, &str, &[&str]); 4] = [
        (
            "new",
            "Resolved",
            "\"resolved\" is not allowed from \"new\"; from there the lifecycle \"Support\" allows \"open\".",
            &["open"],
        ),
        (
            "open",
            "open",
            "The ticket already has the status \"open\"; from there the lifecycle \"Support\" allows \"waiting\", \
             \"resolved\" and \"deleted\".",
            &["waiting", "resolved", "deleted"],
        ),
        (
            "deleted",
            "open",
            "\"open\" is not allowed from \"deleted\"; the lifecycle \"Support\" allows no transition from there.",
            &[],
        ),
        (
            "stalled",
            "open",
            "The ticket's status \"stalled\" no longer exists in the lifecycle \"Support\", so it has no \
             transitions. Add the status to the lifecycle again.",
            &[],
        ),
    ];
    for (from, to, sentence, allowed) in table {
        let error = support().transition(from, to).unwrap_err();
        assert_eq!(error.code(), Code::TransitionDenied);
        assert_eq!(error.detail(), sentence);
        assert_eq!(error.allowed().unwrap(), allowed);
    }
}

#[test]
fn a_status_that_does_not_exist_is_invalid_and_the_answer_names_those_that_do() {
    for error in [
        support().transition("new", "closed").unwrap_err(),
        support().transition("new", "").unwrap_err(),
        support().create_status(Some("closed")).unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::Invalid);
        assert_eq!(error.faults()[0].field, "status");
        let message = &error.faults()[0].message;
        assert!(
            message.contains("\"new\", \"open\", \"waiting\", \"resolved\" and \"deleted\""),
            "{message}"
        );
    }
}

#[test]
fn a_ticket_is_created_only_in_what_create_allows() {
    let created = support().create_status(None).unwrap();
    assert_eq!((created.status(), created.class()), ("new", StatusClass::Initial));
    assert_eq!(created.right(), "CreateTicket");
    assert_eq!(created.lifecycle_version(), support().version_id());
    assert_eq!(support().create_status(Some("Open")).unwrap().status(), "open");

    let error = support().create_status(Some("resolved")).unwrap_err();
    assert_eq!(error.code(), Code::TransitionDenied);
    let sentence = "A ticket cannot be created with the status \"resolved\"; the lifecycle \"Support\" allows \"new\" and \"open\".";
    assert_eq!(error.detail(), sentence);
    assert_eq!(error.allowed().unwrap(), ["new", "open"]);
}

#[test]
fn rights_are_looked_up_in_the_order_of_rt() {
    let mut rights = vec![("a -> b", "Exact"), ("* -> b", "To"), ("a -> *", "From"), ("* -> *", "Any")];
    let right_of = |rights: &[(&str, &str)], from: &str, to: &str| {
        let rights: BTreeMap<_, _> = rights.iter().copied().collect();
        let graph = json!({
            "initial": ["a"], "active": ["b"], "inactive": ["deleted"], "rights": rights,
            "transitions": {"": ["a"], "a": ["b", "deleted"], "b": ["a", "deleted"]},
        });
        lifecycle(9, "rights", graph).transition(from, to).unwrap().right().unwrap().to_owned()
    };
    for expected in ["Exact", "To", "From", "Any", "ModifyTicket"] {
        assert_eq!(right_of(&rights, "a", "b"), expected);
        rights.drain(..rights.len().min(1));
    }
    assert_eq!(right_of(&[], "a", "deleted"), "DeleteTicket");
    assert_eq!(right_of(&[("* -> *", "Any")], "a", "deleted"), "Any");
    assert_eq!(right_of(&[("a -> *", "From")], "b", "a"), "ModifyTicket");
}

#[test]
fn the_right_to_create_is_the_one_of_its_own_transition_and_no_star_stands_for_it() {
    for (key, expected) in [
        ("'' -> a", "Special"),
        ("\"\" -> A", "Special"),
        (" -> a", "Special"),
        ("* -> a", "CreateTicket"),
        ("* -> *", "CreateTicket"),
        ("'' -> b", "CreateTicket"),
    ] {
        let graph = json!({
            "initial": ["a", "b"], "active": [], "inactive": [],
            "transitions": {"": ["a", "b"]}, "rights": {key: "Special"},
        });
        assert_eq!(lifecycle(9, "rights", graph).create_status(None).unwrap().right(), expected, "{key}");
    }
    assert_eq!(stock().transition("open", "deleted").unwrap().right(), Some("DeleteTicket"));
    assert_eq!(stock().create_status(None).unwrap().right(), "CreateTicket");
}

#[test]
fn a_move_to_another_lifecycle_goes_by_the_map() {
    let change = support().map_to(&billing(), "Waiting").unwrap().unwrap();
    assert_eq!((change.old_status(), change.new_status()), ("waiting", "parked"));
    assert_eq!((change.old_class(), change.class()), (StatusClass::Active, StatusClass::Inactive));
    assert_eq!(change.lifecycle_version(), billing().version_id());
    assert!(change.is_mapped() && change.right().is_none() && change.enters_inactive());
    assert!(matches!(change.into_change(), Change::Status { mapped: true, .. }));
}

#[test]
fn a_move_changes_nothing_where_status_and_class_stay() {
    assert_eq!(support().map_to(&support(), "open").unwrap(), None);
    assert_eq!(support().map_to(&billing(), "open").unwrap(), None);
    let shut = lifecycle(
        2,
        "Billing",
        json!({"initial": ["received"], "active": [], "inactive": ["open"], "transitions": {"": ["received"]}}),
    );
    let change = support().map_to(&shut, "open").unwrap().unwrap();
    assert_eq!((change.old_status(), change.new_status()), ("open", "open"));
    assert_eq!(change.class(), StatusClass::Inactive);
}

#[test]
fn a_move_without_a_map_is_refused_with_what_to_add_where() {
    let table = [
        (
            billing(),
            support(),
            "open",
            "The ticket cannot move: the lifecycle \"Billing\" has no mapping of \"open\" to a status of \"Support\". \
             Set maps.\"Support\".\"open\" in the definition of \"Billing\" to one of \"new\", \"open\", \
             \"waiting\", \"resolved\" and \"deleted\".",
        ),
        (
            support(),
            billing(),
            "deleted",
            "The ticket cannot move: the lifecycle \"Support\" has no mapping of \"deleted\" to a status of \
             \"Billing\". Set maps.\"Billing\".\"deleted\" in the definition of \"Support\" to one of \
             \"received\", \"open\" and \"parked\".",
        ),
        (
            support(),
            billing(),
            "resolved",
            "The ticket cannot move: the lifecycle \"Support\" maps \"resolved\" to \"gone\", which \"Billing\" \
             does not have. Set maps.\"Billing\".\"resolved\" in the definition of \"Support\" to one of \
             \"received\", \"open\" and \"parked\".",
        ),
    ];
    for (from, to, status, sentence) in table {
        let error = from.map_to(&to, status).unwrap_err();
        assert_eq!(error.code(), Code::NoStatusMap);
        assert_eq!(error.detail(), sentence);
    }
}

#[test]
fn the_first_allowed_status_of_a_list_is_the_first_in_the_order_of_the_definition() {
    let stock = stock();
    assert_eq!(stock.first_allowed("resolved", StatusClass::Active), Some("open"));
    assert_eq!(stock.first_allowed("open", StatusClass::Active), Some("stalled"));
    assert_eq!(stock.first_allowed("open", StatusClass::Inactive), Some("resolved"));
    assert_eq!(stock.first_allowed("new", StatusClass::Initial), None);
    assert_eq!(support().first_allowed("new", StatusClass::Inactive), None);
    assert_eq!(support().first_allowed("gone", StatusClass::Active), None);
}

#[test]
fn a_word_of_a_condition_is_a_status_or_a_list() {
    let support = support();
    for (word, status, expected) in [
        ("Open", "open", true),
        ("waiting", "open", false),
        ("ACTIVE", "open", true),
        ("active", "new", false),
        ("initial", "new", true),
        ("inactive", "deleted", true),
        ("inactive", "never heard of", false),
        ("gone", "gone", true),
    ] {
        assert_eq!(support.matches(word, status), expected, "{word} {status}");
    }
    assert!(support.knows("Waiting") && support.knows("Active") && !support.knows("gone"));
}

#[test]
fn a_status_with_the_name_of_a_list_is_meant_alone_by_that_name() {
    let graph = json!({
        "initial": ["draft"], "active": ["trial", "Active"], "inactive": ["expired"],
        "transitions": {"": ["draft"], "draft": ["trial", "Active"]},
    });
    let contract = lifecycle(3, "contract", graph);
    for (word, status, expected) in [
        ("active", "Active", true),
        ("ACTIVE", "trial", false),
        ("inactive", "expired", true),
        ("initial", "draft", true),
    ] {
        assert_eq!(contract.matches(word, status), expected, "{word} {status}");
    }
    assert_eq!((contract.list_of("Active"), support().list_of("Active")), (None, Some(StatusClass::Active)));
    assert_eq!(contract.list_of("inactive"), Some(StatusClass::Inactive));
}

/// Names that collide, differ only in case, or are invalid.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => "[sS][0-3]",
        1 => Just("deleted".to_owned()),
        1 => "\\PC{0,6}",
        1 => any::<String>(),
        1 => prop::sample::select(vec!["", "*", "''", "->", "\u{130}", "a\u{0}", "active"]).prop_map(str::to_owned),
    ]
}

fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(name(), 0..4)
}

prop_compose! {
    /// Definitions of the right shape, most of them invalid.
    fn any_definition()(
        initial in names(), active in names(), inactive in names(),
        on_create in prop::option::of(name()),
        transitions in prop::collection::btree_map(name(), names(), 0..6),
        rights in prop::collection::btree_map((name(), name()).prop_map(|(a, b)| format!("{a} -> {b}")), name(), 0..4),
        maps in prop::collection::btree_map(name(), prop::collection::btree_map(name(), name(), 0..4), 0..3),
    ) -> Definition {
        let defaults = definition::Defaults { on_create };
        Definition {
            initial, active, inactive, transitions,
            defaults: Some(defaults), rights: Some(rights), maps: Some(maps),
        }
    }
}

prop_compose! {
    /// A valid definition: statuses s0, S1, ... in any lists, with transitions as in `edges`.
    fn good_definition()(
        classes in prop::collection::vec(0_usize..3, 1..8),
        edges in prop::collection::vec(any::<bool>(), 64),
    ) -> Definition {
        let spell = |at: usize| if at.is_multiple_of(2) { format!("s{at}") } else { format!("S{at}") };
        let of = |class| (1..=classes.len()).filter(|at| classes[at - 1] == class).map(spell).collect::<Vec<_>>();
        let mut initial = of(0);
        initial.insert(0, "s0".to_owned());
        let ways = |from: usize| {
            let ways = (0..=classes.len()).filter(|&to| to != from && edges[(from * 8 + to) % 64]);
            ways.map(spell).collect::<Vec<_>>()
        };
        let mut transitions: BTreeMap<_, _> = (0..=classes.len()).map(|at| (spell(at), ways(at))).collect();
        transitions.insert(String::new(), vec!["s0".to_owned()]);
        Definition {
            initial, active: of(1), inactive: of(2), transitions, defaults: None, rights: None, maps: None,
        }
    }
}

prop_compose! {
    /// A valid definition with a few random changes, after which most are invalid.
    fn bent_definition()(
        good in good_definition(),
        more in names(),
        on_create in prop::option::of(name()),
        ways in prop::option::of((name(), names())),
        rights in prop::collection::btree_map((name(), name()).prop_map(|(a, b)| format!("{a} -> {b}")), "R?", 0..2),
        map in prop::option::of((name(), prop::collection::btree_map(name(), name(), 0..3))),
        bend in any::<[bool; 3]>(),
    ) -> Definition {
        let mut bent = good;
        if bend[0] { bent.inactive.extend(more) }
        if bend[1] { bent.transitions.extend(ways) }
        if bend[2] { bent.defaults = Some(definition::Defaults { on_create }) }
        Definition { rights: Some(rights), maps: Some(map.into_iter().collect()), ..bent }
    }
}

proptest! {
    #[test]
    fn a_hostile_definition_is_refused_or_compiled_and_never_panics(
        definition in prop_oneof![any_definition(), bent_definition()], name in name(), from in name(), to in name(),
    ) {
        match compile(1, &name, definition) {
            Err(faults) => prop_assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.message.is_empty())),
            Ok(lifecycle) => {
                prop_assert!(lifecycle.create_status(None).is_ok());
                prop_assert_eq!(
                    lifecycle.transition(&from, &to).is_ok(),
                    lifecycle.transitions_from(&from).iter().any(|way| *way == fold(&to)),
                );
                lint::lint(&lifecycle, &lint::Surroundings { others: &[&stock()], ..Default::default() });
            }
        }
    }

    #[test]
    fn a_definition_read_back_compiles_to_the_same_lifecycle(definition in good_definition()) {
        let json = serde_json::to_string(&definition).unwrap();
        let back: Definition = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&back, &definition);
        prop_assert_eq!(compile(1, "same", back).unwrap(), compile(1, "same", definition).unwrap());
    }

    #[test]
    fn no_sequence_of_transitions_leaves_the_lifecycle(
        definition in good_definition(), wanted in prop::collection::vec("[sS][0-9]", 0..40),
    ) {
        let lifecycle = compile(1, "walk", definition).unwrap();
        let mut status = lifecycle.create_status(None).unwrap().status().to_owned();
        for to in wanted {
            if let Ok(change) = lifecycle.transition(&status, &to) {
                prop_assert_eq!(change.old_status(), &status);
                prop_assert!(lifecycle.transitions_from(&status).contains(&change.new_status().to_owned()));
                status = change.new_status().to_owned();
                prop_assert_eq!(lifecycle.class_of(&status), Some(change.class()));
            }
            prop_assert!(lifecycle.statuses().contains(&status));
        }
    }
}
