//! Configurations of actions: which are accepted, and the errors for the others. The tests of plans cover their effects.

use super::read::ITEMS_MAX;
use super::*;
use serde_json::json;

fn compile(kind: &str, config: &Value) -> Action {
    Action::compile(kind, config).unwrap_or_else(|faults| panic!("{kind} {config}: {faults:?}"))
}

#[test]
fn every_type_is_made_from_its_configuration_and_has_its_name_and_a_schema() {
    let (value, who) = (json!({"value": "{{ now }}"}), json!({"role": "cc", "who": "{{ now }}"}));
    let mail = json!({"to": ["requestor", "a@example.net", "{{ ticket.cf.Mail }}"]});
    let hook = json!({"url": "https://hooks.example/{{ now }}", "body": "{{ now }}", "secret": "sign",
        "headers": {"X-Note": "{{ now }}", "Authorization": {"secret": "token"}}});
    // The type, a configuration of it, whether it needs a template, how many texts it has, a key of its schema.
    let table = [
        ("SendEmail", mail, true, 1, "notify_actor"),
        ("Webhook", hook, false, 3, "url"),
        (
            "Connector",
            json!({"kind": "chat", "payload": {"text": "{{ now }}", "to": ["#a", "{{ now }}"], "n": 1}}),
            false,
            2,
            "payload",
        ),
        ("SetCustomField", json!({"field": "Note", "value": ["a", "b"]}), false, 2, "mode"),
        ("SetStatus", json!({"status": "open"}), false, 0, "status"),
        ("SetOwner", value.clone(), false, 1, "value"),
        ("SetPriority", value.clone(), false, 1, "value"),
        ("SetSubject", value.clone(), false, 1, "value"),
        ("SetQueue", value.clone(), false, 1, "value"),
        ("SetDue", value, false, 1, "value"),
        ("AddComment", json!({"content": "x"}), false, 1, "content"),
        ("AddCorrespondence", json!({}), true, 0, "content"),
        ("AddWatcher", who.clone(), false, 1, "role"),
        ("RemoveWatcher", who, false, 1, "who"),
    ];
    assert_eq!(table.each_ref().map(|row| row.0), ACTIONS.each_ref().map(|action| action.name));
    for (kind, config, needs_template, texts, key) in table {
        let action = compile(kind, &config);
        assert_eq!((action.action_type.name, action.needs_template()), (kind, needs_template));
        assert_eq!(action.texts().len(), texts, "{kind}");
        let secrets = if kind == "Webhook" { vec!["token", "sign"] } else { Vec::new() };
        assert_eq!(action.secrets(), secrets);
        let schema = action.action_type.schema();
        assert!(schema.get("properties").and_then(|keys| keys.get(key)).is_some(), "{kind}: {schema:?}");
    }
    assert!(ActionType::find("SendPigeon").is_none() && Action::compile("SendPigeon", &json!({})).is_err());
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    let hook = |url: &str| ("Webhook", json!({ "url": url }));
    let headed = |name: &str| ("Webhook", json!({"url": "https://hooks.example", "headers": {name: "x"}}));
    let nobody: [&str; 0] = [];
    let table = [
        (hook("hooks.example/x"), "url", "must begin with https://"),
        (hook("ftp://hooks.example/x"), "url", "must begin with https://"),
        (hook("https://"), "url", "is not a valid URL"),
        (hook("https://{{ now }}/x"), "url", "must be literal"),
        (hook("https://hooks.example{{ now }}"), "url", "must be literal"),
        (hook("https://user@hooks.example/"), "url", "username or password"),
        (hook("https://:pass@hooks.example/"), "url", "username or password"),
        (hook("https://hooks.example/#part"), "url", "fragment"),
        (headed("Bad Name"), "headers.Bad Name", "letters, digits and hyphens"),
        (headed("HOST"), "headers.HOST", "belongs to Tessera or to the connection"),
        (
            ("Webhook", json!({"url": "https://hooks.example", "headers": {"X-A": "1", "x-a": "2"}})),
            "headers.x-a",
            "listed twice, with different capitalization",
        ),
        (
            (
                "Webhook",
                json!({"url": "https://hooks.example", "headers": {"Content-Type": "{{ ticket.subject }}"}}),
            ),
            "headers.Content-Type",
            "must be literal",
        ),
        (hook("https://hooks.example/a/../b"), "url", "leads to another path"),
        (hook("https://hooks.example/a/%2e%2E?x"), "url", "leads to another path"),
        (
            ("Webhook", json!({"url": "https://hooks.example", "body": "{\"s\": }"})),
            "body",
            "cannot become valid JSON",
        ),
        (("SetDue", json!({"value": "tomorrow"})), "value", "is not a time"),
        (("SetDue", json!({"value": "2026-12-24"})), "value", "is not a time"),
        (("SetDue", json!({"value": "0000-12-24T00:00:00Z"})), "value", "years 1 to 9999"),
        (("SetPriority", json!({"value": "high"})), "value", "is not a whole number"),
        (("SetPriority", json!({"value": "80.5"})), "value", "is not a whole number"),
        (("SetPriority", json!({"value": ""})), "value", "is not a whole number"),
        (("SetPriority", json!({"value": "2147483648"})), "value", "is not a whole number"),
        (("SetSubject", json!({"value": " "})), "value", "is empty"),
        (("SetSubject", json!({"value": "a\nb"})), "value", "must be one line"),
        (("SetSubject", json!({"value": "x".repeat(1001)})), "value", "at most 1000"),
        (("Webhook", json!({"url": "https://hooks.example", "method": "HEAD"})), "method", "POST, PUT"),
        (("SendEmail", json!({ "to": nobody })), "to", "is empty, as are cc and bcc"),
        (("SendEmail", json!({"cc": ["boss"]})), "cc[0]", "neither a mail address nor a role"),
        (
            ("SetCustomField", json!({"field": "F", "mode": "clear", "value": "x"})),
            "value",
            "is not allowed with mode clear",
        ),
        (("SetCustomField", json!({"field": "F"})), "value", "is missing"),
        (("SetCustomField", json!({"field": "F", "value": ["", "{{ x }}"]})), "value[1]", "unknown variable"),
        (("SetSubject", json!({"value": "{{ x }}"})), "value", "unknown variable"),
        (
            ("Connector", json!({"kind": "chat", "payload": {"a/b": ["", "{{ x }}"]}})),
            "payload/a~1b/1",
            "unknown variable",
        ),
        (
            ("Connector", json!({"kind": "chat", "payload": "x".repeat(64 * 1024)})),
            "payload",
            "at most 65536",
        ),
        (("Connector", json!({"kind": "chat", "payload": vec![0; 501]})), "payload", "at most 500"),
        (
            (
                "Connector",
                json!({"kind": "chat", "payload": (0..17).fold(json!(1), |below, _| json!([below]))}),
            ),
            "payload",
            "deeper than 16",
        ),
    ];
    for ((kind, config), place, message) in table {
        let faults = Action::compile(kind, &config).unwrap_err();
        assert_eq!(faults[0].field, format!("action_config.{place}"), "{config}");
        assert!(faults[0].message.contains(message), "{config}: {}", faults[0].message);
    }
    compile("Webhook", &json!({"url": "HTTP://hooks.example:8080/{# no fragment #}"}));
    compile("SetCustomField", &json!({"field": "F", "mode": "clear"}));
    for (kind, value) in [
        ("SetDue", ""),
        ("SetDue", " 2026-12-24T18:00:00+01:00 "),
        ("SetDue", "{{ now }}"),
        ("SetPriority", "-5"),
        ("SetPriority", "{{ ticket.priority + 1 }}"),
    ] {
        compile(kind, &json!({ "value": value }));
    }
}

#[test]
fn a_header_of_tessera_or_of_the_connection_is_refused_however_it_is_written() {
    for name in [
        "Upgrade",
        "TE",
        "Trailer",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Keep-Alive",
        "Expect",
        "HTTP2-Settings",
        "Connection",
        "Transfer-Encoding",
        "content-LENGTH",
        "Host",
        "Tessera-Depth",
        "webhook-id",
    ] {
        let config = json!({"url": "https://hooks.example", "headers": {name: "v"}});
        let faults = Action::compile("Webhook", &config).unwrap_err();
        assert_eq!(faults[0].field, format!("action_config.headers.{name}"));
    }
    for name in ["Date", "User-Agent", "Range", "Accept-Encoding", "Accept", "Authorization", "X-Ok"] {
        compile("Webhook", &json!({"url": "https://hooks.example", "headers": {name: "v"}}));
    }
}

#[test]
fn a_list_of_a_configuration_has_its_limit() {
    let to =
        |count: usize| json!({"to": (0..count).map(|n| format!("a{n}@example.net")).collect::<Vec<_>>()});
    compile("SendEmail", &to(ITEMS_MAX));
    assert!(Action::compile("SendEmail", &to(ITEMS_MAX + 1)).is_err());
    assert!(Action::compile("SendEmail", &to(ITEMS_MAX + 50)).is_err());
}

#[test]
fn a_webhooks_own_words_are_json_unless_its_content_type_says_otherwise() {
    let of = |content_type: Option<&str>| {
        let headers = content_type.map(|kind| json!({"content-TYPE": kind})).unwrap_or(json!({}));
        Action::compile(
            "Webhook",
            &json!({"url": "https://hooks.example", "body": "{\"a", "headers": headers}),
        )
    };
    assert!(of(None).is_err() && of(Some("application/JSON")).is_err());
    assert!(of(Some("text/plain")).is_ok());
}
