//! Connector messages: payloads that match the schema of their kind, and the reasons why a scrip creates none.

use super::*;
use crate::models::delivery::{Custom, Payload};

fn schema() -> Value {
    json!({
        "type": "object",
        "required": ["channel", "text"],
        "properties": {
            "channel": {"type": "string", "pattern": "^#"},
            "text": {"type": "string", "minLength": 1},
            "number": {"type": "integer"},
            "urgent": {"type": "boolean"},
        },
    })
}

fn desk(payload: Value, more: Value) -> Catalog {
    let config = json!({"kind": "chat", "payload": payload});
    let scrip = ("Chat", ("OnCreate", json!({})), ("Connector", config), more);
    Desk::new().kind("chat", schema()).scrip(scrip.0, scrip.1, scrip.2, scrip.3).open()
}

fn made(plan: &Plan) -> &Custom {
    match &plan.deliveries[0].payload {
        Payload::Connector(custom) => custom,
        other => panic!("for a connector: {other:?}"),
    }
}

/// Plans a create; without a number, a preview.
fn planned(catalog: &Catalog, number: Option<i64>) -> Plan {
    let situation =
        Situation { ticket: Target::New { number }, people: People::default(), messages: Vec::new() };
    prepare(catalog, &situation, &Command::Create(new_ticket()), &context(1)).unwrap()
}

#[test]
fn a_payload_is_its_literals_and_what_its_templates_say_in_the_types_of_the_schema() {
    let catalog = desk(
        json!({"channel": "#{{ queue.name | lower }}", "text": "{$ticket.subject} \"quoted\"\n", "number": "{{ ticket.number }}",
               "urgent": "{{ ticket.priority > 5 }}", "more": [1, null, {"{{ not.a.template.of.a.key }}": "{{ ticket.number }}"}]}),
        json!({}),
    );
    let plan = create(&catalog, new_ticket()).unwrap();
    let custom = made(&plan);
    let expected = json!({"channel": "#support", "text": format!("{} \"quoted\"\n", new_ticket().subject), "number": 42,
        "urgent": false, "more": [1, null, {"{{ not.a.template.of.a.key }}": "42"}]});
    assert_eq!(custom.json, expected);
    assert_eq!((custom.connector.as_str(), custom.depth), ("chat", 1));
    assert_eq!(plan.deliveries[0].payload.endpoint(), "chat");
    assert_eq!(verdicts(&plan), ["Chat: fired"]);
}

#[test]
fn a_payload_that_does_not_fit_fails_its_scrip_and_not_the_request() {
    let catalog = desk(json!({"channel": "{{ queue.name }}", "text": "{{ ticket.cf.Note }}"}), json!({}));
    let plan = create(&catalog, new_ticket()).unwrap();
    assert_eq!(verdicts(&plan), ["Chat: failed"]);
    assert!(plan.deliveries.is_empty());
    let told = plan.transactions.iter().find(|one| one.transaction_type == TransactionType::SystemError);
    let told = format!("{told:?}");
    for part in ["payload does not match the schema of", "/channel: ", "/text: "] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn a_template_that_breaks_says_where_it_stands() {
    let catalog = desk(json!({"channel": "#a", "text": "{{ ticket.cf[\"Unheard\"] }}"}), json!({}));
    let plan = create(&catalog, new_ticket()).unwrap();
    assert_eq!(verdicts(&plan), ["Chat: failed"]);
    let told = format!("{:?}", plan.transactions);
    assert!(told.contains("payload/text"), "{told}");
}

#[test]
fn a_preview_that_knows_no_number_says_what_the_create_will_do() {
    let catalog = desk(json!({"channel": "#a", "text": "x", "number": "{{ ticket.number }}"}), json!({}));
    let (preview, create) = (planned(&catalog, None), planned(&catalog, Some(7)));
    assert_eq!(
        (made(&preview).json["number"].clone(), made(&create).json["number"].clone()),
        (json!("new"), json!(7))
    );
    assert_eq!(preview.hash, create.hash);
    // A preview reports everything that does not depend on the number.
    let catalog = desk(json!({"channel": "a", "text": "x", "number": "{{ ticket.number }}"}), json!({}));
    assert_eq!(verdicts(&planned(&catalog, None)), ["Chat: failed"]);
}

#[test]
fn every_part_of_it_is_in_the_hash_and_the_number_of_a_new_ticket_is_not() {
    let hash = |payload: Value, number| planned(&desk(payload, json!({})), Some(number)).hash;
    let base = json!({"channel": "#a", "text": "x", "number": 1});
    for other in [
        json!({"channel": "#b", "text": "x", "number": 1}),
        json!({"channel": "#a", "text": "x", "number": 2}),
        json!({"channel": "#a", "text": "x", "number": 1, "more": null}),
    ] {
        assert_ne!(hash(base.clone(), 1), hash(other.clone(), 1), "{other}");
    }
    let numbered = json!({"channel": "#a", "text": "x {{ ticket.number }}"});
    assert_eq!(hash(numbered.clone(), 1), hash(numbered, 2));
}

#[test]
fn a_schema_that_makes_another_thing_of_a_text_makes_another_plan() {
    let config = json!({"kind": "chat", "payload": {"number": "{{ ticket.number }}"}});
    let hash = |schema: Value, number| {
        let scrip = ("OnCreate", json!({}));
        let desk =
            Desk::new().kind("chat", schema).scrip("Chat", scrip, ("Connector", config.clone()), json!({}));
        planned(&desk.open(), number).hash
    };
    let whole = json!({"properties": {"number": {"type": "integer"}}});
    assert_ne!(hash(Value::Null, Some(7)), hash(whole.clone(), Some(7)), "a text, and a number");
    assert_eq!(hash(whole.clone(), None), hash(whole, Some(7)));
}

#[test]
fn a_payload_that_grows_too_large_fails() {
    let text = "{% for n in range(end=200) %}{% for m in range(end=10) %}{{ ticket.subject }}{{ ticket.subject }}{{ ticket.subject }}{% endfor %}{% endfor %}";
    let subject = "x".repeat(30);
    let with = |texts: usize| {
        let catalog = Desk::new().kind("pager", Value::Null).scrip(
            "Page",
            ("OnCreate", json!({})),
            ("Connector", json!({"kind": "pager", "payload": vec![text; texts]})),
            json!({}),
        );
        create(&catalog.open(), CreateTicket { subject: subject.clone(), ..new_ticket() }).unwrap()
    };
    assert_eq!(verdicts(&with(1)), ["Page: fired"]);
    let plan = with(2);
    assert_eq!(verdicts(&plan), ["Page: failed"]);
    assert!(format!("{:?}", plan.transactions).contains("at most 262144 are allowed"));
}

#[test]
fn a_scrip_on_trial_shows_what_it_would_hand_over() {
    let catalog = desk(json!({"channel": "#a", "text": "x"}), json!({"state": "shadow"}));
    let plan = create(&catalog, new_ticket()).unwrap();
    assert_eq!(verdicts(&plan), ["Chat: shadow"]);
    assert!(plan.deliveries.is_empty());
    let told = serde_json::to_string(&plan.evaluations).unwrap();
    assert!(told.contains("\"connector\":\"chat\"") && told.contains("#a"), "{told}");
}

#[test]
fn a_kind_without_a_schema_takes_anything_and_one_that_is_gone_fails() {
    let config = json!({"kind": "pager", "payload": ["{{ ticket.number }}", 1]});
    let with = |desk: Desk| {
        desk.scrip("Page", ("OnCreate", json!({})), ("Connector", config.clone()), json!({})).open()
    };
    let plan = create(&with(Desk::new().kind("pager", Value::Null)), new_ticket()).unwrap();
    assert_eq!(made(&plan).json, json!(["42", 1]));
    let plan = create(&with(Desk::new()), new_ticket()).unwrap();
    assert_eq!(verdicts(&plan), ["Page: failed"]);
}
