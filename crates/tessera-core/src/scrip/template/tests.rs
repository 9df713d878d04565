//! Tests of templates: rendered values, escaping and limits.

mod costs;
mod hostile;
mod json;
mod limits;
mod operators;
mod refusals;
mod simple;

use super::*;
use crate::models::template::ContentType;
use crate::models::{TemplateId, TemplateSource, TemplateVersionId};
use serde_json::{Value, json};

fn variables() -> Context {
    Context::from_serialize(&values()).unwrap()
}

fn values() -> Value {
    let ann = json!({"username": "ann", "name": "Ann Lee", "email": "ann@example.com"});
    json!({
        "ticket": {
            "id": "0195f0a2-5b1c-7d3e-8f00-3a9b5c7d9e01",
            "number": 42,
            "url": "https://desk.example.com/t/42",
            "subject": "Prüfung <b>\"fire\"</b> & more",
            "status": "open",
            "priority": 50,
            "queue": "Support",
            "owner": {"username": "Nobody", "name": null, "email": null},
            "creator": ann,
            "requestors": [{"address": "eve@example.net", "username": null, "name": null}, {"address": "joe@example.net", "username": "joe", "name": "Joe"}],
            "cc": [],
            "admin_cc": [],
            "requestor_addresses": "eve@example.net, joe@example.net",
            "cc_addresses": "",
            "admin_cc_addresses": "",
            "created_at": "2026-03-04T09:30:00Z",
            "updated_at": "2026-03-04T09:30:00Z",
            "started_at": null,
            "resolved_at": null,
            "due_at": null,
            "told_at": null,
            "cf": {"Severity": "high", "First Name": "Eve", "Components": ["web", "api"], "Note": null, "Lines": "one\r\nBcc: evil@example.org", "Zero": "a\u{0}b"}
        },
        "transaction": {
            "id": "x", "type": "Status", "field": "Status", "old_value": "new", "new_value": "open", "content": "It burns.\nAgain.",
            "description": "Status changed from new to open", "created_at": "2026-03-04T09:30:00Z", "creator": ann
        },
        "batch": [{"type": "Status", "field": "Status"}, {"type": "Comment", "field": null}],
        "messages": [{"type": "Create", "content": "Hello", "creator": "eve", "created_at": "2026-03-04T09:30:00Z"}],
        "queue": {"id": "q", "name": "Support", "description": null, "correspond_address": "support@example.com", "comment_address": null},
        "actor": ann,
        "scrip": {"id": "s", "name": "Tell the team", "version": 3, "description": null},
        "tessera": {"name": "desk", "base_url": "https://desk.example.com"},
        "now": "2026-03-04T09:30:00Z"
    })
}

#[track_caller]
fn render(source: &str, mode: Mode) -> Result<String, Failure> {
    match Compiled::compile(source, mode) {
        Ok(text) => text.render(&variables()),
        Err(faults) => panic!("{source:?} does not compile: {faults:#?}"),
    }
}

/// The faults of a text, one a line: `line:column message`.
fn faults(source: &str, mode: Mode) -> String {
    let faults = Compiled::compile(source, mode).err().unwrap_or_default();
    let shown = |fault: &Fault| {
        format!("{}:{} {}", fault.line.unwrap_or(0), fault.column.unwrap_or(0), fault.message)
    };
    faults.iter().map(shown).collect::<Vec<_>>().join("\n")
}

fn failure_of(source: &str, mode: Mode) -> String {
    render(source, mode).expect_err(source).to_string()
}

#[test]
fn a_text_prints_what_it_names() {
    for (source, expected) in [
        ("no marks at all { } ${$1} {$}", "no marks at all { } ${$1} {$}"),
        ("{{ ticket.number }}", "42"),
        ("{$ticket.number}", "42"),
        ("#{$ticket.number}: {{ ticket.status }}", "#42: open"),
        ("{$TicketId} {$TicketOwnerName} {$TicketCFSeverity} {$rtname}", "42 Nobody high desk"),
        ("{{ TicketStatus }}", "open"),
        ("{$ticket.cf[\"First Name\"]} {{ cf['First Name'] }} {{ ticket.cf.Severity }}", "Eve Eve high"),
        ("{$cf.Severity}", "high"),
        ("[{{ ticket.due_at }}{{ ticket.owner.email }}{$ticket.cf.Note}]", "[]"),
        ("{{ ticket.cf.Components }}", "web, api"),
        ("{{ ticket.subject }}", "Prüfung <b>\"fire\"</b> & more"),
        (
            "{% if ticket.status == 'open' %}yes{% elif ticket.priority > 3 %}no{% else %}never{% endif %}",
            "yes",
        ),
        ("{% if ticket.status in [\"open\", \"new\"] and not ticket.due_at %}yes{% endif %}", "yes"),
        (
            "{% for one in ticket.requestors %}{{ loop.index }}:{{ one.address }} {% endfor %}",
            "1:eve@example.net 2:joe@example.net ",
        ),
        (
            "{% for name, value in ticket.cf %}{% if value is string and name != 'Zero' %}{{ name }}={{ value | truncate(length=3, end='') }};{% endif %}{% endfor %}",
            "First Name=Eve;Lines=one;Severity=hig;",
        ),
        ("{% for one in ticket.cc %}x{% else %}nobody{% endfor %}", "nobody"),
        ("{% for one in ticket.due_at %}x{% endfor %}", ""),
        ("{% set who = actor.name %}{{ who | upper }}", "ANN LEE"),
        ("{{ ticket.requestors[0].address }}", "eve@example.net"),
        ("{{ \"{{\" }}{# {{ nothing }} #}!", "{{!"),
        ("a  {{- ticket.number -}}  b", "a42b"),
        ("{{ ticket.priority * 2 + 1 }}", "101"),
        ("{{ 'a' if ticket.due_at else 'b' }}", "b"),
    ] {
        assert_eq!(render(source, Mode::Text).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn filters_do_what_their_table_says() {
    for (source, expected) in [
        ("{{ queue.name | append(text='!') }}", "Support!"),
        ("{{ ticket.created_at | date(format='%d.%m.%Y') }}", "04.03.2026"),
        ("{{ ticket.created_at | date }}", "2026-03-04 09:30"),
        ("{{ ticket.due_at | date | default(value='no date') }}", "no date"),
        ("{{ ticket.cf.Nope | default(value='none') }}", "none"),
        ("{{ ticket.cc_addresses | default(value='nobody', boolean=true) }}", "nobody"),
        (
            "{% set one = batch | first %}{% set two = batch | last %}{{ one.type }} {{ two.type }} {{ ticket.cc | first }}",
            "Status Comment ",
        ),
        ("{{ cf.Components | join(sep=' + ') }}", "web + api"),
        ("{{ cf.Components | json }}", "[\"web\",\"api\"]"),
        ("{{ batch | length }} {{ actor.name | length }} {{ ticket.due_at | length }}", "2 7 0"),
        ("{{ 'ÄB' | lower }}", "äb"),
        ("{{ transaction.content | quote }}", "> It burns.\n> Again."),
        ("{{ ticket.queue | replace(from='p', to='bb') }}", "Subbbbort"),
        ("{{ '  a ' | trim }}", "a"),
        ("{{ 'Prüfung' | truncate(length=4) }}", "Prüf..."),
        ("{{ ticket.due_at | upper }}", ""),
        ("{{ 'a/b ü' | urlencode }}", "a%2Fb%20%C3%BC"),
        ("{% for n in range(start=1, end=4) %}{{ n }}{% endfor %}", "123"),
    ] {
        assert_eq!(render(source, Mode::Text).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn every_example_in_the_tables_compiles() {
    for offered in FILTERS.iter().chain(TESTS).chain(FUNCTIONS) {
        assert_eq!(
            faults(&format!("{{% set x = {} %}}", offered.example), Mode::Text),
            "",
            "{}",
            offered.name
        );
    }
    for variable in VARIABLES {
        let path = variable.path.replace("[]", "[0]");
        assert_eq!(faults(&format!("{{% set x = {path} %}}"), Mode::Text), "", "{path}");
    }
    for alias in ALIASES {
        assert!(VARIABLES.iter().any(|variable| variable.path == alias.path), "{}", alias.path);
    }
}

#[test]
fn html_escapes_values_and_nothing_else() {
    assert_eq!(
        render("<p>{{ ticket.subject }}</p>", Mode::Html).as_deref(),
        Ok("<p>Prüfung &lt;b&gt;&quot;fire&quot;&lt;/b&gt; &amp; more</p>")
    );
    assert_eq!(
        render("{{ cf.Components | json }}", Mode::Html).as_deref(),
        Ok("[&quot;web&quot;,&quot;api&quot;]")
    );
}

#[test]
fn messages_keep_their_lines_and_their_html_in_html() {
    let clean = crate::models::html::clean;
    let mut values = values();
    values["transaction"]["html"] = json!(clean("<p style='color:red'>It <b>burns.<script>x()</script>"));
    values["batch"] = json!([
        {"type": "Create", "content": "a <\r\nb", "html": null},
        {"type": "Comment", "content": "text", "html": clean(&"<div>".repeat(600))},
    ]);
    let context = Context::from_serialize(&values).unwrap();
    let cleaned = "<p style=\"color:red\">It <b>burns.</b></p>";
    for (source, expected) in [
        ("{{ transaction.content }}", cleaned),
        ("{$transaction.content}", cleaned),
        ("{$TransactionContent}", cleaned),
        ("{% set it = transaction %}{{ it.content }}", cleaned),
        ("{{ transaction.content | upper }}", "IT BURNS.<br>AGAIN."),
        ("{% if transaction.content is containing(pat=\"<b>\") %}markup{% else %}text{% endif %}", "text"),
        ("{% for one in batch %}{{ one.content }};{% endfor %}", "a &lt;<br>b;text;"),
        ("{% for one in messages %}{{ one.content }}{% endfor %}", "Hello"),
        ("<a title=\"{{ transaction.content }}\">{{ 1 + 1 }}", "<a title=\"It burns.\nAgain.\">2"),
        ("{{ cf.Lines }}", "one<br>Bcc: evil@example.org"),
    ] {
        let text = Compiled::compile(source, Mode::Html).unwrap();
        assert_eq!(text.render(&context).as_deref(), Ok(expected), "{source}");
        let plain = Compiled::compile("{{ transaction.content }}", Mode::Text).unwrap();
        assert_eq!(plain.render(&context).as_deref(), Ok("It burns.\nAgain."));
    }
}

#[test]
fn json_is_json_whatever_the_values() {
    let source = r##"{"text": "#{$ticket.number} {{ ticket.subject }}", "n": {{ ticket.number }}, "due": {{ ticket.due_at }},
        "in": "{{ ticket.due_at }}", "s": {{ ticket.subject }}, "list": {{ cf.Components }}, "same": {{ cf.Components | json }},
        "quoted": "\"{{ cf.Lines }}\"", "all": [{% for m in messages %}{{ m }}{% endfor %}]}"##;
    let rendered: Value = serde_json::from_str(&render(source, Mode::Json).unwrap()).unwrap();
    assert_eq!(
        rendered,
        json!({
            "text": "#42 Prüfung <b>\"fire\"</b> & more", "n": 42, "due": null, "in": "",
            "s": "Prüfung <b>\"fire\"</b> & more", "list": ["web", "api"], "same": ["web", "api"],
            "quoted": "\"one\r\nBcc: evil@example.org\"", "all": values()["messages"],
        })
    );
    assert_eq!(render(" ", Mode::Json).as_deref(), Ok(" "));
    insta::assert_snapshot!(failure_of("[{% for b in batch %}1,{% endfor %}]", Mode::Json), @r#"renders invalid JSON: expected value at line 1 column 6"#);
    insta::assert_snapshot!(faults("{\"a\": {% if now %}\"x{% endif %}\"}", Mode::Json), @r#"
    1:21 a JSON string must end in the block or branch in which it begins
    1:34 the JSON ends inside a string; close its quotes
    "#);
}

#[test]
fn a_url_part_encodes_its_values() {
    assert_eq!(
        render("/t/{$ticket.cf['First Name']}?q={{ cf.Lines }}&n={{ ticket.number }}", Mode::UrlPart)
            .as_deref(),
        Ok("/t/Eve?q=one%0D%0ABcc%3A%20evil%40example.org&n=42")
    );
}

#[test]
fn a_line_stays_a_line() {
    assert_eq!(render("[{$rtname}] {% if\n now %}x{% endif %}", Mode::Line).as_deref(), Ok("[desk] x"));
    assert_eq!(render("Re: {{ cf.Lines }}", Mode::Line).as_deref(), Ok("Re: one Bcc: evil@example.org"));
    assert_eq!(render("{{ 'a\\n\\r\\tb' }}{{ \"\u{2028}\u{85}\" }}c", Mode::Line).as_deref(), Ok("a b c"));
    insta::assert_snapshot!(faults("one\ntwo", Mode::Line), @r#"1:4 a control character is not allowed here; this must be a single line"#);
    let long = format!("{{% for n in range(end=200) %}}{}{{% endfor %}}", "x".repeat(20));
    insta::assert_snapshot!(failure_of(&long, Mode::Line), @r#"renders 4000 bytes; a line has at most 2000 (LINE_MAX)"#);
}

#[test]
fn what_a_text_uses_is_known_at_save() {
    let compiled = |source| Compiled::compile(source, Mode::Text).unwrap();
    for (source, create, update) in [
        ("{$ticket.subject} {{ actor.name }}", false, false),
        ("{{ now | date }}", true, true),
        ("{$ticket.number}", true, false),
        ("{$TicketId}", true, false),
        ("{% if ticket.url %}{% endif %}", true, false),
        ("{{ ticket.created_at }}", true, false),
        ("{% set t = ticket %}", true, true),
        ("{% set t = transaction %}{{ t.type }}", true, true),
        ("{{ transaction.type }}", false, false),
        ("{{ transaction['id'] }}", true, true),
        ("{% for one in batch %}{{ one.id }}{% endfor %}", true, true),
        ("{% for one in ticket.requestors %}{{ one.address }}{% endfor %}", false, false),
    ] {
        let text = compiled(source);
        assert_eq!((text.is_volatile(true), text.is_volatile(false)), (create, update), "{source}");
    }
    assert!(compiled("{% for m in messages %}{{ m.content }}{% endfor %}").uses_messages());
    assert!(!compiled("{# messages #} messages {{ 'messages' }}").uses_messages());
    let fields = compiled("{$ticket.cf.A} {{ cf[\"B c\"] }} {{ ticket[\"cf\"].D }} {$TicketCFE}");
    assert_eq!(fields.custom_fields().iter().collect::<Vec<_>>(), ["A", "B c", "D", "E"]);
}

fn template(
    subject: &str,
    body: &str,
    content_type: ContentType,
    headers: &[(&str, &str)],
) -> TemplateSource {
    TemplateSource {
        id: TemplateId(uuid::Uuid::nil()),
        version_id: TemplateVersionId(uuid::Uuid::nil()),
        version: 1,
        name: "Autoreply".to_owned(),
        queue: None,
        subject: subject.to_owned(),
        body: body.to_owned(),
        content_type,
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        disabled: false,
    }
}

#[test]
fn a_template_renders_subject_body_and_headers() {
    let source = template(
        "{$ticket.status}: {$ticket.subject}",
        "<b>{$ticket.subject}</b>",
        ContentType::Html,
        &[("Reply-To", "{{ actor.email }}"), ("X-Severity", "{$cf.Severity}")],
    );
    let rendered = Template::compile(&source).unwrap().render(&variables(), "cut").unwrap();
    assert_eq!(rendered.subject, "open: Prüfung <b>\"fire\"</b> & more");
    assert_eq!(rendered.body, "<b>Prüfung &lt;b&gt;&quot;fire&quot;&lt;/b&gt; &amp; more</b>");
    let headers = [("Reply-To", "ann@example.com"), ("X-Severity", "high")];
    assert_eq!(rendered.headers, headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    assert!(!rendered.is_blank());
}
