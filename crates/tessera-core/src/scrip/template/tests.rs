//! What templates accept, print, refuse and survive.

use super::*;
use crate::models::template::ContentType;
use crate::models::{TemplateId, TemplateSource, TemplateVersionId};
use proptest::prelude::*;
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
            "url": "https://desk.example.com/tickets/42",
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
        ("{{ (batch | first).type }} {{ (batch | last).type }} {{ ticket.cc | first }}", "Status Comment "),
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
fn faults_say_where_and_what_to_do() {
    let source = "Grüße {$ticket.id}\n{{ ticket.sbject }} {$TicketSubjekt} {{ tiket.id }}\n{{ ticket.owner.mail }} {{ ticket.owner }} {{ ticket.subject.x }}\n{{ x | uper }} {{ now() }} {{ messages.content }} {% include \"x\" %}{% if now is evil %}{% endif %}";
    insta::assert_snapshot!(faults(source, Mode::Text), @"");
}

#[test]
fn syntax_faults_have_their_place_in_what_was_typed() {
    let cases = [
        "Grüße {$ticket.id}, {$ticket.number}\n  {{ ticket.number + }}",
        "ü {{ ticket.number",
        "{$ticket.id",
        "{$ticket.id | upper}",
        "{# never",
        "{{ 'never }}",
        "{{ € }}",
        "{{ }}",
        "{% if ticket.number %}x",
        "x{% endif %}",
        "{% for x in batch %}{% endif %}",
        "{% frobnicate %}",
    ];
    let all: Vec<_> =
        cases.iter().map(|source| format!("{source:?}\n  {}", faults(source, Mode::Text))).collect();
    insta::assert_snapshot!(all.join("\n"), @"");
}

#[test]
fn what_is_not_offered_is_refused_at_save() {
    let cases = [
        "{% set_global x = 1 %}",
        "{% set x %}a{% endset %}",
        "{% set ticket = 1 %}",
        "{% for ticket in batch %}{% endfor %}",
        "{% raw %}{{ x }}{% endraw %}",
        "{% extends 'x' %}",
        "{% import 'x' as y %}",
        "{% block x %}{% endblock %}",
        "{% filter upper %}{% endfilter %}",
        "{% component x() %}{% endcomponent %}",
        "{% <x> %}{% </x> %}",
        "{{ <x /> }}",
        "{{ get_env(name='HOME') }}",
        "{{ throw(message='x') }}",
        "{{ __tera_context }}",
        "{{ 'a' ~ 'b' }}",
        "{{ {'a': 1} }}",
        "{{ [x for x in batch] }}",
        "{{ [ticket.number] }}",
        "{{ [...batch] }}",
        "{{ ticket.subject | safe }}",
        "{{ ticket.subject | truncate(len=3) }}",
        "{{ loop.index }}",
        "{% for a in batch %}{% for b in batch %}{% for c in batch %}{% endfor %}{% endfor %}{% endfor %}",
        "a\0b",
    ];
    let all: Vec<_> =
        cases.iter().map(|source| format!("{source:?}\n  {}", faults(source, Mode::Text))).collect();
    insta::assert_snapshot!(all.join("\n"), @"");
}

#[test]
fn what_is_undefined_at_run_time_fails_with_its_place() {
    let cases = [
        "ü\n {$ticket.cf.Nope}",
        "{{ ticket.number }} {{ cf[\"No such\"] | upper }}",
        "{% for one in batch %}{{ one.nope }}{% endfor %}",
        "{% for one in ticket.subject %}{% endfor %}",
        "{% set o = ticket.owner %}{{ o }}",
        "{{ ticket.requestors }}",
        "{{ ticket.subject | date }}",
        "{{ ticket.number / 0 }}",
        "{{ cf.Zero }}",
    ];
    let all: Vec<_> =
        cases.iter().map(|source| format!("{source:?}\n  {}", failure_of(source, Mode::Text))).collect();
    insta::assert_snapshot!(all.join("\n"), @"");
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
    insta::assert_snapshot!(failure_of("[{% for b in batch %}1,{% endfor %}]", Mode::Json), @"");
    insta::assert_snapshot!(faults("{\"a\": {% if now %}\"x{% endif %}\"}", Mode::Json), @"");
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
    insta::assert_snapshot!(failure_of("Re: {{ cf.Lines }}", Mode::Line), @"");
    insta::assert_snapshot!(faults("one\ntwo", Mode::Line), @"");
    let long = format!("{{% for n in range(end=200) %}}{}{{% endfor %}}", "x".repeat(20));
    insta::assert_snapshot!(failure_of(&long, Mode::Line), @"");
}

#[test]
fn bombs_stop_at_a_counted_limit() {
    let loops = |body: &str| {
        format!(
            "{{% for a in range(end=200) %}}{{% for b in range(end=200) %}}{body}{{% endfor %}}{{% endfor %}}"
        )
    };
    let cases = [
        loops(&"x".repeat(1024)),
        loops(&"{% if now %}{% endif %}".repeat(100)),
        loops("{{ transaction.content | upper | lower | upper | lower | trim | upper }}"),
        "{% for n in range(end=201) %}{% endfor %}".to_owned(),
        format!("{{{{ 'aaaaaaaaaa'{} }}}}", " | replace(from='a', to='aaaaaaaaaa')".repeat(12)),
        format!("{}{{{{ y }}}}", "{% set y = 'aaaaaaaaaa' | append(text='aaaaaaaaaa') %}")
            + &"{% set y = y | append(text=y) %}".repeat(40),
        format!("{{{{ '\"'{} }}}}", " | json".repeat(40)),
    ];
    let all: Vec<_> = cases.iter().map(|source| failure_of(source, Mode::Text)).collect();
    insta::assert_snapshot!(all.join("\n"), @"");
}

#[test]
fn deep_sources_are_refused_and_do_not_overflow_the_stack() {
    let many = 10_000;
    let cases = [
        "{{ ".to_owned() + &"(".repeat(many) + "1" + &")".repeat(many) + " }}",
        "{{ ".to_owned() + &"[".repeat(many) + &"]".repeat(many) + " }}",
        "{{ ".to_owned() + &"not ".repeat(many) + "now }}",
        "{{ 1".to_owned() + &" ** 2".repeat(many) + " }}",
        "{{ 1".to_owned() + &" + 2".repeat(many) + " }}",
        "{{ 1".to_owned() + &" if now else 2".repeat(3_000) + " }}",
        "{{ now".to_owned() + &" | trim".repeat(many - 2_000) + " }}",
        "{% if now %}".repeat(2_500) + &"{% endif %}".repeat(2_500),
        "{% if now %}".to_owned() + &"{% elif now %}".repeat(4_000) + "{% endif %}",
        "{{ batch".to_owned() + &"[0]".repeat(many) + " }}",
        "x".repeat(SOURCE_MAX + 1),
    ];
    // As small as the stack of a thread is anywhere a template is compiled.
    let told = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        cases
            .iter()
            .map(|source| faults(source, Mode::Text).lines().next().unwrap_or("").to_owned())
            .collect::<Vec<_>>()
    });
    insta::assert_snapshot!(told.unwrap().join().unwrap().join("\n"), @"");
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
    let rendered = Template::compile(&source).unwrap().render(&variables()).unwrap();
    assert_eq!(rendered.subject, "open: Prüfung <b>\"fire\"</b> & more");
    assert_eq!(rendered.body, "<b>Prüfung &lt;b&gt;&quot;fire&quot;&lt;/b&gt; &amp; more</b>");
    let headers = [("Reply-To", "ann@example.com"), ("X-Severity", "high")];
    assert_eq!(rendered.headers, headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    assert!(!rendered.is_blank());
}

#[test]
fn no_value_injects_a_header() {
    let source = template("x", "x", ContentType::Text, &[("X-Lines", "{$cf.Lines}")]);
    let failure = Template::compile(&source).unwrap().render(&variables()).unwrap_err();
    assert_eq!((failure.field.as_str(), failure.line), ("headers.X-Lines", None));
}

#[test]
fn the_faults_of_a_template_name_their_field() {
    let source = template(
        "{{ nope }}",
        "{{ nope }}",
        ContentType::Text,
        &[
            ("BCC", "x"),
            ("Content-Type", "x"),
            ("X Space", "x"),
            ("X-Colon:", "x"),
            ("X-Ü", "x"),
            ("X-Line", "one\r\ntwo"),
            ("x-twice", "x"),
            ("X-Twice", "x"),
            ("X-Tessera-Ticket", "x"),
            ("", "x"),
        ],
    );
    let faults = Template::compile(&source).unwrap_err();
    let told: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
    insta::assert_snapshot!(told.join("\n"), @"");
}

#[test]
fn html_becomes_text_and_never_panics() {
    insta::assert_snapshot!(
        html_to_text("<h1>Hello</h1><p>Your <b>ticket</b> <a href='https://x.example/1'>42</a></p><ul><li>one<li>two</ul>"),
        @""
    );
    for hostile in [
        "<div>".repeat(50_000),
        "<table><tr><td>".repeat(15_000),
        "<b><p>".repeat(3_000),
        "<ul><li>".repeat(4_000) + "x",
        "<blockquote>".repeat(2_000) + "x",
        "\u{0}<\u{fffd}&#0;&#x110000;<!--".to_owned(),
    ] {
        assert!(html_to_text(&hostile).len() <= 4 * OUTPUT_MAX);
    }
}

#[test]
fn one_compiled_text_renders_the_same_on_many_threads() {
    let text =
        Compiled::compile("{% for k, v in ticket.cf %}{{ k }}{% endfor %}{{ now | date }}", Mode::Text)
            .unwrap();
    let expected = text.render(&variables()).unwrap();
    std::thread::scope(|scope| {
        let renders: Vec<_> = (0..8).map(|_| scope.spawn(|| text.render(&variables()))).collect();
        for render in renders {
            assert_eq!(render.join().unwrap().as_ref(), Ok(&expected));
        }
    });
}

/// Pieces that templates are made of, so that random ones get far.
fn pieces() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "{{",
        "}}",
        "{%",
        "%}",
        "{$",
        "}",
        "{#",
        "#}",
        "-",
        " ",
        "if ",
        "elif ",
        "else",
        "endif",
        "for ",
        "endfor",
        "in ",
        "set ",
        "x",
        "y",
        "=",
        "==",
        "ticket",
        ".cf",
        ".subject",
        "[\"Severity\"]",
        "[",
        "]",
        "(",
        ")",
        "|",
        "json",
        "default(value=",
        "replace(from='a',to='b')",
        "truncate(length=",
        "9223372036854775807",
        "0",
        "-1",
        "1.5",
        "**",
        "//",
        "%",
        "/",
        "*",
        "range(end=",
        "range(start=",
        "batch",
        "messages",
        "loop.index",
        "is ",
        "not ",
        "defined",
        "containing(pat=",
        ",",
        ":",
        "'",
        "\"",
        "\\",
        "null",
        "ü",
        "\n",
        "~",
        "date(format='%Q%')",
        "now",
        "break",
        "first",
        "join(sep=",
        "?.",
        "?[",
        "<",
        "{{ ticket.subject }}",
        "{% if now %}",
        "{% endif %}",
        "{% for x in batch %}",
        "{% endfor %}",
        "{% set x = ",
        "::",
    ]);
    let piece = prop_oneof![20 => known.prop_map(str::to_owned), 1 => any::<String>()];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

/// Expressions, most of which compile.
fn expressions() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "ticket.subject",
        "ticket.number",
        "ticket.due_at",
        "cf.Nope",
        "cf.Components",
        "batch",
        "1",
        "-3",
        "9223372036854775807",
        "2.5",
        "'ü'",
        "now",
        "ticket.cf",
        "true",
        "null",
        "[1, 'a']",
        "ticket",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 24, 2, |inner| {
        let filter = prop::sample::select(
            FILTERS.iter().map(|filter| filter.example.split_once('|').unwrap().1).collect::<Vec<_>>(),
        );
        let sign = prop::sample::select(vec![
            "+", "-", "*", "/", "//", "%", "**", "==", "<", ">=", "in", "not in", "and", "or",
        ]);
        let test = prop::sample::select(
            TESTS.iter().map(|test| test.example.split_once(" is ").unwrap().1).collect::<Vec<_>>(),
        );
        prop_oneof![
            (inner.clone(), sign, inner.clone()).prop_map(|(a, sign, b)| format!("({a} {sign} {b})")),
            (inner.clone(), filter).prop_map(|(a, filter)| format!("({a} | {filter})")),
            (inner.clone(), test).prop_map(|(a, test)| format!("({a} is {test})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}:]")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a} | truncate(length={b}))")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_source_panics(source in pieces(), mode in prop::sample::select(vec![Mode::Text, Mode::Html, Mode::Json, Mode::UrlPart, Mode::Line])) {
        if let Ok(text) = Compiled::compile(&source, mode) {
            let variables = variables();
            prop_assert_eq!(text.render(&variables), text.render(&variables));
        }
    }

    #[test]
    fn no_expression_panics(expression in expressions()) {
        for source in [format!("{{{{ {expression} }}}}"), format!("{{% for x in {expression} %}}{{{{ x }}}}{{% endfor %}}")] {
            if let Ok(text) = Compiled::compile(&source, Mode::Json) {
                let variables = variables();
                prop_assert_eq!(text.render(&variables), text.render(&variables));
            }
        }
    }

    #[test]
    fn no_value_leaves_its_json_string(value in any::<String>()) {
        let mut values = values();
        values["ticket"]["subject"] = json!(value);
        let text = Compiled::compile(r#"{"a": "{$ticket.subject}", "b": {$ticket.subject}}"#, Mode::Json).unwrap();
        let rendered = text.render(&Context::from_serialize(&values).unwrap()).unwrap();
        prop_assert_eq!(serde_json::from_str::<Value>(&rendered).unwrap(), json!({"a": value, "b": value}));
    }

    #[test]
    fn html_to_text_never_panics(html in any::<String>(), tags in "(<(p|b|table|tr|td|li|ul|pre|/p|/td|img src=x|a href=y)>|x| ){0,60}") {
        html_to_text(&html);
        html_to_text(&tags);
    }
}
