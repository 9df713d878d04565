//! Every rule of definitions, with tables of definitions that break it.

use super::*;
use serde_json::{Value, json};

/// A small lifecycle with everything in it.
fn good() -> Value {
    json!({
        "initial": ["New"], "active": ["open", "In Review"], "inactive": ["done"],
        "defaults": {"on_create": "open"},
        "transitions": {"": ["new", "open"], "new": ["open"], "Open": ["in review", "done"], "in review": ["open"]},
        "rights": {"'' -> open": "OpenAtOnce", "* -> done": "CloseTicket", "*->*": "ModifyTicket"},
        "maps": {"Billing": {"new": "fresh", "OPEN": "open"}}
    })
}

fn check(definition: Value) -> Result<Graph, Vec<Fault>> {
    Graph::check("Support", &serde_json::from_value(definition).unwrap())
}

/// The faults of the good definition with the value at a JSON pointer replaced (or, for `null`, removed).
fn faults_with(pointer: &str, value: Value) -> Vec<Fault> {
    let mut definition = good();
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    let parent = definition.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Value::Null => parent.remove(last),
        value => parent.insert(last.to_owned(), value),
    };
    check(definition).unwrap_err()
}

#[test]
fn a_good_definition_is_stored_folded_and_its_lists_keep_their_order() {
    let graph = check(good()).unwrap();
    assert_eq!(graph.statuses, ["new", "open", "in review", "done"]);
    assert_eq!(graph.on_create, "open");
    assert_eq!(graph.transitions["open"], ["in review", "done"]);
    assert_eq!(graph.rights[CREATE]["open"], "OpenAtOnce");
    assert_eq!(graph.rights[ANY][ANY], "ModifyTicket");
    assert_eq!(graph.maps["billing"]["open"], "open");
}

#[test]
fn every_broken_rule_is_a_fault_with_its_place_and_what_to_do() {
    let long = "x".repeat(65);
    let grows = "\u{130}".repeat(40);
    let table = [
        ("/initial", json!([""]), "definition.initial[0]", "is empty; a status has 1 to 64 characters"),
        ("/initial", json!(["new", long]), "definition.initial[1]", "is 65 characters long"),
        ("/initial", json!(["new", grows]), "definition.initial[1]", "is 80 characters long"),
        ("/initial", json!(["new", "a\nb"]), "definition.initial[1]", "control character"),
        ("/initial", json!(["new", "a\u{0}"]), "definition.initial[1]", "control character"),
        ("/initial", json!(["new", " a"]), "definition.initial[1]", "begins or ends with a space"),
        ("/initial", json!(["new", "*"]), "definition.initial[1]", "is reserved for the notation of rights"),
        (
            "/initial",
            json!(["new", "a->b"]),
            "definition.initial[1]",
            "is reserved for the notation of rights",
        ),
        ("/inactive", json!(["done", "OPEN"]), "definition.inactive[1]", "is already in the list active"),
        ("/transitions/", Value::Null, "definition.transitions", "has no entry \"\""),
        ("/transitions/", json!([]), "definition.transitions.\"\"", "no initial or active status"),
        ("/transitions/", json!(["done"]), "definition.transitions.\"\"", "no initial or active status"),
        (
            "/transitions/",
            json!(["new", "open", "opne"]),
            "definition.transitions.\"\"[2]",
            "no status \"opne\"",
        ),
        ("/transitions/opne", json!(["done"]), "definition.transitions.opne", "there is no status \"opne\""),
        ("/transitions/*", json!(["done"]), "definition.transitions.\"*\"", "there is no status \"*\""),
        (
            "/transitions/new",
            json!(["open", "gone"]),
            "definition.transitions.new[1]",
            "\"open\", \"in review\"",
        ),
        ("/transitions/new", json!(["New"]), "definition.transitions.new[0]", "to itself"),
        (
            "/transitions/new",
            json!(["open", "Open"]),
            "definition.transitions.new[1]",
            "occurs twice in this list",
        ),
        (
            "/transitions/in review",
            json!(["x"]),
            "definition.transitions.\"in review\"[0]",
            "no status \"x\"",
        ),
        ("/transitions/open", json!(["done"]), "definition.transitions.open", "occurs twice"),
        (
            "/defaults/on_create",
            json!("gone"),
            "definition.defaults.on_create",
            "there is no status \"gone\"",
        ),
        (
            "/defaults/on_create",
            json!("done"),
            "definition.defaults.on_create",
            "allows \"new\" and \"open\"",
        ),
        ("/rights/open", json!("R"), "definition.rights.open", "write \"from -> to\""),
        ("/rights/open ->", json!("R"), "definition.rights.\"open ->\"", "write \"from -> to\""),
        ("/rights/open -> x", json!("R"), "definition.rights.\"open -> x\"", "there is no status \"x\""),
        ("/rights/x -> open", json!("R"), "definition.rights.\"x -> open\"", "there is no status \"x\""),
        ("/rights/* -> ''", json!("R"), "definition.rights.\"* -> ''\"", "there is no status \"''\""),
        ("/rights/* -> DONE", json!("R"), "definition.rights.\"* -> done\"", "occurs twice"),
        ("/rights/* -> open", json!(""), "definition.rights.\"* -> open\"", "1 to 25 ASCII letters"),
        (
            "/rights/* -> open",
            json!("Modify Ticket"),
            "definition.rights.\"* -> open\"",
            "1 to 25 ASCII letters",
        ),
        (
            "/rights/* -> open",
            json!("R".repeat(26)),
            "definition.rights.\"* -> open\"",
            "1 to 25 ASCII letters",
        ),
        (
            "/maps/Billing",
            json!({"gone": "x"}),
            "definition.maps.Billing.gone",
            "there is no status \"gone\"",
        ),
        ("/maps/Billing", json!({"new": ""}), "definition.maps.Billing.new", "is empty"),
        ("/maps/Billing", json!({"new": "a", "NEW": "b"}), "definition.maps.Billing.new", "occurs twice"),
        ("/maps/BILLING", json!({}), "definition.maps.Billing", "occurs twice"),
        ("/maps/support", json!({}), "definition.maps.support", "is this lifecycle itself"),
        ("/maps/", json!({}), "definition.maps.\"\"", "the name of the lifecycle is empty"),
    ];
    for (pointer, value, field, message) in table {
        let faults = faults_with(pointer, value);
        let found = faults.iter().any(|fault| fault.field == field && fault.message.contains(message));
        assert!(found, "{pointer}: {field}: {message}\n{faults:#?}");
    }
}

#[test]
fn faults_are_told_all_at_once() {
    let mut definition = good();
    definition["initial"] = json!(["New", "open"]);
    definition["defaults"]["on_create"] = json!("done");
    definition["transitions"]["new"] = json!(["a", "open", "b"]);
    definition["rights"]["nonsense"] = json!("no good");
    let fields: Vec<_> = check(definition).unwrap_err().into_iter().map(|fault| fault.field).collect();
    assert_eq!(
        fields,
        [
            "definition.active[0]",
            "definition.transitions.new[0]",
            "definition.transitions.new[2]",
            "definition.defaults.on_create",
            "definition.rights.nonsense",
            "definition.rights.nonsense",
        ]
    );
}

#[test]
fn sizes_have_limits_and_so_has_the_list_of_faults() {
    let names = |count: usize| (0..count).map(|at| format!("s{at}")).collect::<Vec<_>>();
    let with =
        |count| json!({"initial": names(count), "active": [], "inactive": [], "transitions": {"": ["s0"]}});
    check(with(STATUSES_MAX)).unwrap();
    let faults = check(with(STATUSES_MAX + 1)).unwrap_err();
    assert_eq!(faults, [Fault::new("definition", "has 101 statuses; at most 100 are allowed")]);

    let maps: BTreeMap<_, _> = names(MAPS_MAX + 1).into_iter().map(|name| (name, json!({}))).collect();
    let faults = faults_with("/maps", json!(maps));
    assert_eq!(faults, [Fault::new("definition.maps", "names 101 lifecycles; at most 100 are allowed")]);

    let faults = faults_with("/transitions/new", json!(names(5_000)));
    assert_eq!(faults.len(), FAULTS_MAX + 1);
    assert_eq!(faults[FAULTS_MAX].message, "and 4800 more faults, which are listed once these are fixed");
}

#[test]
fn what_is_exactly_as_large_as_it_may_be_is_taken() {
    let maps: BTreeMap<_, _> = (0..MAPS_MAX).map(|at| (format!("m{at}"), json!({}))).collect();
    let longest = "x".repeat(STATUS_CHARS_MAX);
    let mut definition = good();
    definition["maps"] = json!(maps);
    definition["inactive"] = json!(["done", longest]);
    assert_eq!(check(definition).unwrap().statuses[4], longest);
}

#[test]
fn too_many_statuses_or_faults_are_told_and_nothing_more_is_looked_at() {
    let names: Vec<_> = (0..=STATUSES_MAX).map(|at| format!("s{at}")).collect();
    let faults =
        check(json!({"initial": names, "active": [], "inactive": [], "transitions": {"": ["gone"]}}));
    assert_eq!(faults.unwrap_err().len(), 1);

    // These faults, and the fault that there are too many statuses.
    let nameless = vec![""; FAULTS_MAX - 1];
    let faults = check(json!({"initial": nameless, "active": [], "inactive": [], "transitions": {}}));
    assert_eq!(faults.unwrap_err().len(), FAULTS_MAX);
}

#[test]
fn a_path_shows_a_key_bare_where_it_reads_well_and_else_quoted() {
    for (key, shown) in [("a-b_c9", "a-b_c9"), ("a b", "\"a b\""), ("é", "\"é\"")] {
        let faults = faults_with(&format!("/transitions/{key}"), json!([]));
        assert_eq!(faults[0].field, format!("definition.transitions.{shown}"));
    }
}

#[test]
fn a_lifecycle_has_a_name() {
    let definition: Definition = serde_json::from_value(good()).unwrap();
    for (name, message) in
        [("", "is empty"), ("a\nb", "one line"), (" a", "space"), (&"n".repeat(201), "201 bytes")]
    {
        let faults = Graph::check(name, &definition).unwrap_err();
        assert!(
            faults.len() == 1 && faults[0].field == "name" && faults[0].message.contains(message),
            "{faults:?}"
        );
    }
}

#[test]
fn without_a_default_the_first_initial_status_at_create_is_taken_and_then_the_first_active_one() {
    let on_create = |at_create: Value| {
        let mut definition = good();
        definition.as_object_mut().unwrap().remove("defaults");
        definition["transitions"][""] = at_create;
        check(definition).unwrap().on_create
    };
    assert_eq!(on_create(json!(["done", "open", "new"])), "new");
    assert_eq!(on_create(json!(["done", "in review", "open"])), "in review");
}

#[test]
fn a_definition_serialises_to_the_json_it_was_read_from() {
    let bare = json!({"initial": ["new"], "active": [], "inactive": [], "transitions": {"": ["new"]}});
    let empty = json!({
        "initial": ["new"], "active": [], "inactive": [], "transitions": {"": ["new"]},
        "defaults": {}, "rights": {}, "maps": {}
    });
    let stock: Value = serde_json::from_str(include_str!("../default.json")).unwrap();
    for json in [bare, empty, good(), stock] {
        let definition: Definition = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&definition).unwrap(), json);
    }
}

#[test]
fn keys_that_mean_nothing_and_missing_lists_are_refused() {
    for (pointer, key) in [("", "colour"), ("/defaults", "on_merge")] {
        let mut json = good();
        json.pointer_mut(pointer).unwrap()[key] = json!("x");
        let error = serde_json::from_value::<Definition>(json).unwrap_err().to_string();
        assert!(error.contains(&format!("unknown field `{key}`")), "{error}");
    }
    for key in ["initial", "active", "inactive", "transitions"] {
        let mut json = good();
        json.as_object_mut().unwrap().remove(key);
        let error = serde_json::from_value::<Definition>(json).unwrap_err().to_string();
        assert!(error.contains(&format!("missing field `{key}`")), "{error}");
    }
}

#[test]
fn the_schema_refuses_unknown_keys_too() {
    let schema = serde_json::to_value(schemars::schema_for!(Definition)).unwrap();
    assert_eq!(schema["additionalProperties"], json!(false));
    assert_eq!(schema["required"], json!(["initial", "active", "inactive", "transitions"]));
}

#[test]
fn the_stock_definition_is_that_of_rt() {
    let stock = Definition::stock();
    let graph = Graph::check("default", &stock).unwrap();
    assert_eq!(graph.statuses, ["new", "open", "stalled", "resolved", "rejected", "deleted"]);
    assert_eq!(graph.on_create, "new");
    assert_eq!(graph.transitions[CREATE], ["new", "open", "resolved"]);
    for from in &graph.statuses {
        let others: Vec<_> = graph.statuses.iter().filter(|to| *to != from).cloned().collect();
        assert_eq!(graph.transitions[from], others);
    }
}
