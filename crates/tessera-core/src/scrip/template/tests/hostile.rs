//! Bombs, depths, injections and random sources: each ends at a counted limit, none panics.

use super::*;
use proptest::prelude::*;

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
        loops("{% set x = transaction.content | upper | lower | upper | lower | trim | upper %}"),
        "{% for n in range(end=201) %}{% endfor %}".to_owned(),
        format!("{{{{ 'aaaaaaaaaa'{} }}}}", " | replace(from='a', to='aaaaaaaaaa')".repeat(12)),
        format!("{}{{{{ y }}}}", "{% set y = 'aaaaaaaaaa' | append(text='aaaaaaaaaa') %}")
            + &"{% set y = y | append(text=y) %}".repeat(40),
        format!("{{{{ '\"'{} }}}}", " | json".repeat(40)),
    ];
    let all: Vec<_> = cases.iter().map(|source| failure_of(source, Mode::Text)).collect();
    insta::assert_snapshot!(all.join("\n"), @r#"
    renders more than 1572864 bytes (OUTPUT_MAX)
    this template takes more than 1000000 steps (STEPS_MAX) (line 1, column 42)
    this template takes more than 1000000 steps (STEPS_MAX) (line 1, column 92)
    range returns 201 numbers; at most 200 are allowed (LIST_MAX) (line 1, column 13)
    a filter returns more than 4194304 bytes (FILTERED_MAX) (line 1, column 204)
    a filter returns more than 4194304 bytes (FILTERED_MAX) (line 1, column 621)
    this template takes more than 1000000 steps (STEPS_MAX) (line 1, column 150)
    "#);
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
        "{{ ticket".to_owned() + &".a".repeat(many) + " }}",
        "{$ticket".to_owned() + &".a".repeat(many) + "}",
        "{{ cf".to_owned() + &"['a']".repeat(many) + " }}",
        "{% set x = ticket %}{{ x".to_owned() + &"?.a".repeat(many) + " }}",
        "{{ ".to_owned() + &"batch[".repeat(5_000) + "0" + &"]".repeat(5_000) + " }}",
        "{{ 1".to_owned() + &" == 1".repeat(many) + " }}",
        "{{ now".to_owned() + &" and now".repeat(8_000) + " }}",
        "{{ now".to_owned() + &" is defined".repeat(5_000) + " }}",
        "{{ 1".to_owned() + &" ~ 1".repeat(many) + " }}",
        "{{ - ".to_owned() + &"- ".repeat(many) + "1 }}",
        "{{ now | default(value=".to_owned() + &"now | default(value=".repeat(2_500) + "1 }}",
        "{{ [".to_owned() + &"1, ".repeat(many) + "] }}",
        "{% for a in batch %}".repeat(2_500),
        "{ ".repeat(many) + "$x",
        "{ RT->".repeat(many),
        "{a->b".repeat(8_000) + &"}".repeat(8_000),
        "{#".repeat(many),
        "x".repeat(SOURCE_MAX + 1),
    ];
    // The smallest stack of any thread that compiles a template.
    let told = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        cases
            .iter()
            .map(|source| faults(source, Mode::Text).lines().next().unwrap_or("").to_owned())
            .collect::<Vec<_>>()
    });
    insta::assert_snapshot!(told.unwrap().join().unwrap().join("\n"), @r##"
    1:36 an expression is nested at most 32 deep (DEPTH_MAX)
    1:6 a list literal can contain only texts and numbers
    1:8 "-" and "not" cannot be used consecutively
    1:164 an expression is nested at most 32 deep (DEPTH_MAX)
    1:404 an expression has at most 200 values, parts, operators and filters (PARTS_MAX); split it with {% set %}
    1:443 an expression is nested at most 32 deep (DEPTH_MAX)
    1:1401 an expression has at most 200 values, parts, operators and filters (PARTS_MAX); split it with {% set %}
    1:385 at most 32 blocks and branches may be open at once
    1:447 at most 32 blocks and branches may be open at once
    1:307 an expression has at most 200 values, parts, operators and filters (PARTS_MAX); split it with {% set %}
    1:408 an expression has at most 200 values, parts, operators and filters (PARTS_MAX); split it with {% set %}
    1:407 an expression has at most 200 values, parts, operators and filters (PARTS_MAX); split it with {% set %}
    1:4 a custom field has no part "a"; write ticket.cf["a"]
    1:622 an expression has at most 200 values, parts, operators and filters (PARTS_MAX); split it with {% set %}
    1:196 an expression is nested at most 32 deep (DEPTH_MAX)
    1:504 an expression has at most 200 values, parts, operators and filters (PARTS_MAX); split it with {% set %}
    1:804 an expression has at most 200 values, parts, operators and filters (PARTS_MAX); split it with {% set %}
    1:2197 an expression has at most 200 values, parts, operators and filters (PARTS_MAX); split it with {% set %}
    1:6 "~" is not supported; write {{ a }}{{ b }}, or a | append(text=b)
    1:6 "-" and "not" cannot be used consecutively
    1:644 an expression is nested at most 32 deep (DEPTH_MAX)
    1:605 a list literal has at most 200 items (LIST_MAX)
    1:41 loops can be nested at most 2 deep
    1:19999 this is never closed; add "}"
    1:1 RT's Perl code is not supported; write a name, such as {$TicketSubject}, or {{ ... }}; for a brace in the text, write {{ "{" }}
    1:1 RT's Perl code is not supported; write a name, such as {$TicketSubject}, or {{ ... }}; for a brace in the text, write {{ "{" }}
    1:1 this comment is never closed; add "#}"
    0:0 is 65537 bytes long; at most 65536 are allowed (SOURCE_MAX)
    "##);
}

#[test]
fn the_largest_expressions_that_are_allowed_fit_the_stack() {
    let (deep, wide) = (DEPTH_MAX - 2, PARTS_MAX / 2 - 1);
    let cases = [
        "{{ ".to_owned() + &"(".repeat(deep) + "1" + &")".repeat(deep) + " }}",
        "{{ 1".to_owned() + &" ** 1".repeat(deep) + " }}",
        "{{ 1".to_owned() + &" + 1".repeat(wide) + " }}",
        "{{ 1".to_owned() + &" + (1".repeat(deep / 2) + &")".repeat(deep / 2) + " }}",
        "{{ 1".to_owned() + &" if now else 2".repeat(deep) + " }}",
        "{{ now".to_owned() + &" | trim".repeat(2 * wide) + " }}",
        "{{ now".to_owned() + &" and now".repeat(wide) + " }}",
        "{{ now".to_owned() + &" | append(text=now".repeat(deep) + &")".repeat(deep) + " }}",
        "{{ batch".to_owned() + &"[0]".repeat(wide) + " }}",
        "{{ ".to_owned() + &"batch[".repeat(deep) + "0" + &"]".repeat(deep) + " }}",
        "{% if now %}".repeat(BLOCKS_MAX) + &"{% endif %}".repeat(BLOCKS_MAX),
    ];
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        for source in &cases {
            assert_eq!(faults(source, Mode::Html), "", "{source}");
            Compiled::compile(source, Mode::Html).unwrap().render(&variables()).ok();
        }
    });
    thread.unwrap().join().unwrap();
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

#[test]
fn no_value_injects_a_header() {
    let source = template("x", "x", ContentType::Text, &[("X-Lines", "{$cf.Lines}")]);
    let rendered = Template::compile(&source).unwrap().render(&variables(), "cut").unwrap();
    assert_eq!(rendered.headers["X-Lines"], "one Bcc: evil@example.org");
}

/// Pieces of templates, from which random templates are likely to compile.
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
        "{ $",
        "$Ticket",
        "->",
        "RT->Config",
        "{",
        "cf.severity",
        "TicketCFFirstName",
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
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} | truncate(length={b}))")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})?[{b}].creator")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("(-({a}) if {b} else not {a})")),
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
}
