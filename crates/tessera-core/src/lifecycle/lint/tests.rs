//! Every rule of the linter, with the smallest lifecycle that breaks it.

use super::*;
use crate::lifecycle::Definition;
use crate::lifecycle::tests::lifecycle;
use serde_json::{Value, json};

fn simple(transitions: Value) -> Value {
    json!({"initial": ["new"], "active": ["open"], "inactive": ["done", "deleted"], "transitions": transitions})
}

fn healthy() -> Lifecycle {
    let graph =
        json!({"": ["new"], "new": ["open", "deleted"], "open": ["done", "deleted"], "done": ["open"]});
    lifecycle(1, "Support", simple(graph))
}

fn found(lifecycle: &Lifecycle, around: &Surroundings<'_>) -> Vec<(Severity, &'static str, String)> {
    lint(lifecycle, around).into_iter().map(|found| (found.severity, found.code, found.place)).collect()
}

fn one(severity: Severity, code: &'static str, place: &str) -> Vec<(Severity, &'static str, String)> {
    vec![(severity, code, place.to_owned())]
}

#[test]
fn the_stock_lifecycle_and_a_healthy_one_have_no_findings() {
    let stock = lifecycle(9, "default", serde_json::to_value(Definition::stock()).unwrap());
    assert_eq!(lint(&stock, &Surroundings::default()), []);
    assert_eq!(lint(&healthy(), &Surroundings::default()), []);
}

#[test]
fn a_status_that_nothing_leads_to_is_unreachable_also_in_an_island() {
    let island = json!({"": ["new"], "new": ["done"], "open": ["deleted", "done"], "deleted": ["open"]});
    let island = lifecycle(1, "Support", simple(island));
    let expected =
        [one(Severity::Mend, "unreachable", "open"), one(Severity::Mend, "unreachable", "deleted")];
    assert_eq!(found(&island, &Surroundings::default()), expected.concat());
}

#[test]
fn a_status_that_only_moves_lead_to_is_reached() {
    let graph = json!({"": ["new"], "new": ["done", "deleted"], "open": ["done"]});
    let support = lifecycle(1, "Support", simple(graph));
    let desk = lifecycle(
        2,
        "Desk",
        json!({"initial": ["new"], "active": [], "inactive": [], "transitions": {"": ["new"]},
               "maps": {"SUPPORT": {"new": "Open"}}}),
    );
    let codes = |around: &Surroundings<'_>| -> Vec<_> {
        lint(&support, around).into_iter().map(|found| found.code).collect()
    };
    assert_eq!(codes(&Surroundings::default()), ["unreachable"]);
    assert_eq!(codes(&Surroundings { others: &[&desk], ..Default::default() }), ["no_map"]);
}

#[test]
fn a_status_in_work_with_no_way_out_but_the_bin_is_to_be_mended() {
    for (ways, fate) in
        [(json!([]), "would stay there forever"), (json!(["deleted"]), "could only be deleted")]
    {
        let graph = json!({"": ["new"], "new": ["open", "done", "deleted"], "open": ways});
        let findings = lint(&lifecycle(1, "Support", simple(graph)), &Surroundings::default());
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!((findings[0].code, findings[0].place.as_str()), ("no_way_out", "open"));
        assert!(
            findings[0].text.contains(fate) && findings[0].text.contains("is active and"),
            "{findings:?}"
        );
    }
}

#[test]
fn a_status_named_like_a_list_is_worth_knowing() {
    let graph = json!({"initial": ["new"], "active": ["active"], "inactive": ["done"],
                       "transitions": {"": ["new"], "new": ["active"], "active": ["done"]}});
    let graph = lifecycle(1, "Support", graph);
    assert_eq!(found(&graph, &Surroundings::default()), one(Severity::Know, "list_word", "active"));
}

#[test]
fn a_right_without_its_transition_is_worth_knowing() {
    let mut definition = serde_json::to_value(healthy().definition()).unwrap();
    definition["rights"] = json!({
        "new -> done": "R", "'' -> open": "R", "new -> open": "R", "'' -> new": "R", "* -> new": "R", "done -> *": "R"
    });
    let idle = lifecycle(1, "Support", definition);
    let expected =
        [one(Severity::Know, "idle_right", "'' -> open"), one(Severity::Know, "idle_right", "new -> done")];
    assert_eq!(found(&idle, &Surroundings::default()), expected.concat());
}

#[test]
fn tickets_in_a_removed_status_are_stranded() {
    let tickets = BTreeMap::from([("waiting".to_owned(), 19), ("open".to_owned(), 3), ("old".to_owned(), 0)]);
    let findings = lint(&healthy(), &Surroundings { tickets: Some(&tickets), ..Default::default() });
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].severity, findings[0].code), (Severity::Mend, "tickets_stranded"));
    assert_eq!(
        findings[0].text,
        "19 tickets are in \"waiting\", which this definition does not have. Keep the status, or move these \
         tickets to another status first."
    );
}

#[test]
fn tickets_that_lose_a_way_or_change_their_class_are_worth_knowing() {
    let before = healthy();
    let after = lifecycle(
        1,
        "Support",
        json!({"initial": ["new", "open"], "active": [], "inactive": ["done", "deleted"],
               "transitions": {"": ["new"], "new": ["open"], "open": ["done", "deleted"]}}),
    );
    let tickets =
        BTreeMap::from([("new", 2), ("open", 1), ("done", 7)].map(|(status, n)| (status.to_owned(), n)));
    let around = Surroundings { before: Some(&before), tickets: Some(&tickets), others: &[] };
    let texts: Vec<_> = lint(&after, &around).into_iter().map(|found| found.text).collect();
    assert_eq!(
        texts,
        [
            "7 tickets are in \"done\", which no longer has a way out; before, it led to \"open\".",
            "2 tickets are in \"new\", which no longer leads to \"deleted\"; it still leads to \"open\".",
            "1 ticket is in \"open\", which was active and becomes initial.",
        ]
    );
    assert_eq!(lint(&after, &Surroundings { tickets: None, ..around }), []);
}

#[test]
fn moves_without_a_map_and_maps_that_lead_nowhere_are_found() {
    let with_maps = |number, name, maps: Value| {
        let mut definition = serde_json::to_value(healthy().definition()).unwrap();
        definition["maps"] = maps;
        lifecycle(number, name, definition)
    };
    let all = json!({"new": "new", "open": "open", "done": "done", "deleted": "deleted"});
    let support = with_maps(1, "Support", json!({"Desk": {"new": "new", "open": "opne"}, "Bililng": {}}));
    let desk = with_maps(2, "Desk", json!({"support": all}));
    let plain = with_maps(3, "Plain", json!({}));
    let findings = lint(&support, &Surroundings { others: &[&support, &desk, &plain], ..Default::default() });
    let places: Vec<_> = findings.iter().map(|found| (found.code, found.place.as_str())).collect();
    assert_eq!(
        places,
        [
            ("map_broken", "Support -> Desk"),
            ("no_map", "Support -> Desk"),
            ("no_map", "Support -> Plain"),
            ("no_map", "Plain -> Support"),
            ("map_to_nowhere", "Support -> bililng"),
        ]
    );
    assert!(
        findings[0]
            .text
            .contains("changes \"open\" to \"opne\", which \"Desk\" does not have; its statuses are \"new\"")
    );
    assert!(
        findings[1].text.starts_with("Tickets in \"done\" and \"deleted\" cannot move"),
        "{}",
        findings[1].text
    );
    assert_eq!(
        findings[2].text,
        "Tickets cannot move from \"Support\" to \"Plain\". To allow it, add maps.\"Plain\" to the \
         definition of \"Support\"."
    );
}

#[test]
fn a_finding_is_json_for_the_editor() {
    let finding = Finding {
        severity: Severity::Mend,
        code: "no_way_out",
        place: "open".to_owned(),
        text: "text".to_owned(),
    };
    let expected = json!({"severity": "mend", "code": "no_way_out", "place": "open", "text": "text"});
    assert_eq!(serde_json::to_value(finding).unwrap(), expected);
}
