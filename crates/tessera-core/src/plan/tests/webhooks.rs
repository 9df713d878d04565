//! Webhooks: paths that values cannot leave, bodies of every content type, and the ticket in the default body.

use super::*;
use crate::models::delivery::{Payload, Webhook};

/// A create with a value of Note, and a webhook with this configuration.
fn hooked(config: Value, note: &str, template: Option<&str>) -> Plan {
    let desk = Desk::new().template("T", "s", template.unwrap_or("unused"));
    let more = if template.is_some() { json!({ "template": "T" }) } else { json!({}) };
    let catalog = desk.scrip("Hook", ("OnCreate", json!({})), ("Webhook", config), more).open();
    let values = if note.is_empty() { Vec::new() } else { vec![note.to_owned()] };
    let custom_fields = BTreeMap::from([("Note".to_owned(), values)]);
    create(&catalog, CreateTicket { custom_fields, ..new_ticket() }).unwrap()
}

#[track_caller]
fn sent(plan: &Plan) -> &Webhook {
    match plan.deliveries.as_slice() {
        [delivery] => match &delivery.payload {
            Payload::Webhook(webhook) => webhook,
            other => panic!("{other:?}"),
        },
        _ => panic!("{:?}", plan.evaluations),
    }
}

#[test]
fn a_value_in_a_path_never_names_another_path() {
    let url = |path: &str| json!({ "url": format!("https://hooks.example/api/{path}"), "body": "{}" });
    let inside = "parts/{{ cf.Note }}/close";
    for climbing in [
        "..",
        ".",
        "../x",
        "x/..",
        "x/../..",
        "%2e%2e",
        "%2E.",
        ".%2e",
        "%252e%252e",
        "..\\x",
        "x\\..",
        "..%2f",
        "%2e%2e%5cx",
        "",
    ] {
        let plan = hooked(url(inside), climbing, None);
        assert_eq!(verdict_of(&plan, "Hook"), Verdict::Refused, "{climbing}");
        assert!(plan.deliveries.is_empty() && why_of(&plan, "Hook").contains("url: "), "{climbing}");
    }
    for (path, note, expected) in [
        (inside, "a..b", "/api/parts/a..b/close"),
        (inside, "...", "/api/parts/.../close"),
        (inside, "a/b", "/api/parts/a%2Fb/close"),
        (inside, "see .. there", "/api/parts/see%20..%20there/close"),
        (inside, "a?b#c", "/api/parts/a%3Fb%23c/close"),
        ("{{ cf.Note }}?q={{ cf.Note }}", "x", "/api/x?q=x"),
        ("x?q={{ cf.Note }}", "../..", "/api/x?q=..%2F.."),
        ("x?q={{ cf.Note }}", "", "/api/x?q="),
        ("x{{ cf.Note }}/", "", "/api/x/"),
    ] {
        let plan = hooked(url(path), note, None);
        assert_eq!(sent(&plan).url, format!("https://hooks.example{expected}"), "{path} {note}");
    }
    let last = hooked(url("items/{{ cf.Note }}"), "", None);
    assert_eq!(verdict_of(&last, "Hook"), Verdict::Refused, "/items/ is all of them");
    let half = hooked(url("x/.{{ cf.Note }}"), ".", None);
    assert_eq!(verdict_of(&half, "Hook"), Verdict::Refused);
}

#[test]
fn values_in_a_body_are_escaped_by_its_content_type() {
    let note = "tea & <b>\"x\"</b>=1\n'y' +";
    let table = [
        ("application/x-www-form-urlencoded", "tea%20%26%20%3Cb%3E%22x%22%3C%2Fb%3E%3D1%0A%27y%27%20%2B"),
        (
            "Application/X-WWW-Form-Urlencoded; charset=utf-8",
            "tea%20%26%20%3Cb%3E%22x%22%3C%2Fb%3E%3D1%0A%27y%27%20%2B",
        ),
        ("text/xml", "tea &amp; &lt;b&gt;&quot;x&quot;&lt;/b&gt;=1&#10;&#39;y&#39; +"),
        (
            "application/soap+xml; charset=utf-8",
            "tea &amp; &lt;b&gt;&quot;x&quot;&lt;/b&gt;=1&#10;&#39;y&#39; +",
        ),
        ("text/plain", note),
        ("text/csv", note),
    ];
    for (content_type, expected) in table {
        let config = |body: Option<&str>| json!({"url": "https://hooks.example", "headers": {"content-type": content_type}, "body": body});
        let own = hooked(config(Some("v={{ cf.Note }}")), note, None);
        assert_eq!(sent(&own).body, format!("v={expected}"), "{content_type}");
        let of_template = hooked(config(None), note, Some("v={{ cf.Note }}"));
        assert_eq!(sent(&of_template).body, format!("v={expected}"), "{content_type} of a template");
    }
    let html = json!({"url": "https://hooks.example", "headers": {"Content-Type": "text/html"}, "body": "<p>{{ cf.Note }}</p>"});
    let plan = hooked(html, "<script>", None);
    assert_eq!(sent(&plan).body, "<p>&lt;script&gt;</p>");
    let json = hooked(json!({"url": "https://hooks.example"}), note, Some("{\"v\": {{ cf.Note }}}"));
    assert_eq!(serde_json::from_str::<Value>(&sent(&json).body).unwrap(), json!({ "v": note }));
    let control = json!({"url": "https://hooks.example", "headers": {"Content-Type": "text/xml"}, "body": "{{ cf.Note }}"});
    assert_eq!(sent(&hooked(control, "a\u{1}b\tc", None)).body, "a\u{fffd}b&#9;c");
}

#[test]
fn a_value_is_never_encoded_twice() {
    let url = json!({"url": "https://hooks.example/{{ cf.Note | urlencode }}?a={{ cf.Note }}&b={{ cf.Note | urlencode }}", "body": "{}"});
    assert_eq!(
        sent(&hooked(url, "a b&c", None)).url,
        "https://hooks.example/a%20b%26c?a=a%20b%26c&b=a%20b%26c"
    );
    let form = json!({"url": "https://hooks.example", "headers": {"Content-Type": "application/x-www-form-urlencoded"},
        "body": "a={{ cf.Note | urlencode }}&b={{ cf.Note }}&c={{ ticket.due_at | urlencode }}"});
    assert_eq!(sent(&hooked(form, "a b&c", None)).body, "a=a%20b%26c&b=a%20b%26c&c=");
    let json = json!({"url": "https://hooks.example", "body": "{\"link\": \"https://x.example/{{ cf.Note | urlencode }}\"}"});
    assert_eq!(sent(&hooked(json, "a b&c", None)).body, "{\"link\": \"https://x.example/a%20b%26c\"}");
}

#[test]
fn the_ticket_in_the_default_body_is_the_one_after_the_transactions_so_far() {
    let config = json!({"url": "https://hooks.example"});
    let desk = Desk::new().scrip("Hook", ("OnTransaction", json!({})), ("Webhook", config), json!({}));
    let catalog = desk.open();
    let made = create(&catalog, new_ticket()).unwrap();
    let plan = update(&catalog, &made.ticket, UpdateTicket { priority: Some(7), ..status("open") }).unwrap();
    let ticket = |plan: &Plan| {
        let Payload::Webhook(webhook) = &plan.deliveries[0].payload else { panic!("a webhook was expected") };
        serde_json::from_str::<Value>(&webhook.body).unwrap()["data"]["ticket"].clone()
    };
    let (new, changed) = (ticket(&made), ticket(&plan));
    assert_eq!(
        (&new["number"], &new["version"], &new["queue"]["name"]),
        (&json!(42), &json!(1), &json!("Support"))
    );
    assert_eq!((&new["owner"], &new["creator"]), (&Value::Null, &json!("admin")));
    assert_eq!((&changed["status"], &changed["priority"]), (&json!("open"), &json!(7)));
    assert_eq!(changed["version"], json!(plan.ticket.version));
    assert_eq!(new["custom_fields"], json!({"Severity": null, "Components": [], "Note": null}));
}
