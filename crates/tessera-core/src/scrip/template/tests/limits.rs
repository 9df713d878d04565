//! Exact limits, and the corners of filters.

use super::*;

#[test]
fn a_source_an_output_and_a_line_may_be_exactly_so_long() {
    let compiles = |length: usize| Compiled::compile(&"x".repeat(length), Mode::Text).is_ok();
    assert!(compiles(SOURCE_MAX) && !compiles(SOURCE_MAX + 1) && !compiles(SOURCE_MAX + 9));

    let of = |bytes: usize, mode| {
        let (each, tail) = (bytes / 128, bytes % 128);
        let loops = format!("{{% for n in range(end=128) %}}{}{{% endfor %}}", "x".repeat(each));
        render(&(loops + &"y".repeat(tail)), mode).map(|text| text.len())
    };
    assert_eq!(of(OUTPUT_MAX, Mode::Text), Ok(OUTPUT_MAX));
    assert!(of(OUTPUT_MAX + 1, Mode::Text).is_err() && of(OUTPUT_MAX + 100, Mode::Text).is_err());
    assert_eq!(of(LINE_MAX, Mode::Line), Ok(LINE_MAX));
    assert!(of(LINE_MAX + 1, Mode::Line).is_err());
}

#[test]
fn an_expression_is_nested_so_deep_and_has_so_many_parts_and_no_more() {
    // The outermost value is the first level.
    let deep = |brackets: usize| format!("{{{{ {}1{} }}}}", "(".repeat(brackets), ")".repeat(brackets));
    assert_eq!(render(&deep(DEPTH_MAX - 1), Mode::Text).as_deref(), Ok("1"));
    assert!(faults(&deep(DEPTH_MAX), Mode::Text).contains("nested at most 32 deep"));
    // A sum of n numbers has n values and n - 1 operators.
    let long = |sums: usize| format!("{{{{ now | length{} }}}}", " + 1".repeat(sums));
    assert_eq!(render(&long(PARTS_MAX / 2 - 1), Mode::Text).as_deref(), Ok("119"));
    assert!(faults(&long(PARTS_MAX / 2), Mode::Text).contains("at most 200 values"));
    let set = |names: usize| (0..names).map(|n| format!("{{% set x{n} = {n} %}}")).collect::<String>();
    assert_eq!(faults(&set(NAMES_MAX), Mode::Text), "");
    assert!(faults(&set(NAMES_MAX + 1), Mode::Text).contains("at most 200 names"));
    let list = |items: usize| format!("{{{{ 1 in [{}] }}}}", vec!["2"; items].join(", "));
    assert_eq!(render(&list(LIST_MAX), Mode::Text).as_deref(), Ok("false"));
    assert!(faults(&list(LIST_MAX + 1), Mode::Text).contains("at most 200 items"));
}

#[test]
fn a_text_that_is_sent_in_part_ends_with_a_mark() {
    let cut = |source: &str, mode| {
        let text = Compiled::compile(source, mode).unwrap();
        text.render_cut(&variables(), "[read <all> of it]").unwrap()
    };
    let long = |unit: &str| {
        let each = OUTPUT_MAX / 64 / unit.len() + 1;
        format!("{{% for n in range(end=128) %}}{}{{% endfor %}}", unit.repeat(each.min(60_000 / unit.len())))
    };
    let text = cut(&long("x"), Mode::Text);
    assert_eq!((text.len(), text.ends_with("xx\n\n[read <all> of it]\n")), (OUTPUT_MAX, true));
    // Neither a character nor a tag nor a character reference is cut in the middle.
    let text = cut(&long("東"), Mode::Text);
    assert!(text.len() > OUTPUT_MAX - 4 && text.ends_with("東\n\n[read <all> of it]\n"));
    let printed = |letter: &str| format!("{{{{ '{}' }}}}", letter.repeat(64));
    for unit in ["<b>x</b>".to_owned(), printed("<"), printed("\"")] {
        let html = cut(&long(&unit), Mode::Html);
        assert!(html.len() <= OUTPUT_MAX && html.len() > OUTPUT_MAX - 16, "{unit}");
        let before = html.strip_suffix("<p>[read &lt;all&gt; of it]</p>").unwrap();
        assert!(before.ends_with(['>', ';', 'x']), "{unit}: {}", &before[before.len() - 20..]);
    }
    assert_eq!(cut("{{ ticket.number }}", Mode::Text), "42");
    let line = cut(&long("y"), Mode::Line);
    assert_eq!((line.len(), line.ends_with("yy...")), (LINE_MAX, true));
}

#[test]
fn filters_keep_their_word_in_the_corners() {
    for (source, expected) in [
        ("{{ ticket.created_at | date(timezone='UTC') }}", "2026-03-04 09:30"),
        ("[{{ '' | default(value='x') }}]", "[]"),
        ("{{ '' | default(value='x', boolean=true) }}", "x"),
        ("{{ 'a' | default(value='x', boolean=true) }}", "a"),
        ("{{ 'abc' | replace(from='', to='x') }}", "abc"),
        ("[{{ ticket.due_at | replace(from='a', to='x') }}]", "[]"),
        ("{{ range(start=1000, end=1003) | join(sep=',') }}", "1000,1001,1002"),
        ("{{ range(start=-200, end=0) | length }}", "200"),
        ("{{ 'a' | replace(from='a', to='b') }}", "b"),
    ] {
        assert_eq!(render(source, Mode::Text).as_deref(), Ok(expected), "{source}");
    }
    assert!(failure_of("{{ now | date(timezone='CET') }}", Mode::Text).contains("dates are in UTC"));
    assert!(failure_of("{{ batch | upper }}", Mode::Text).contains("a list or has parts"));
}

#[test]
fn a_fault_says_which_text_it_is_in() {
    let source = template("s", "{{ ticket.number / 0 }}", ContentType::Text, &[]);
    let failure = Template::compile(&source).unwrap().render(&variables(), "cut").unwrap_err();
    assert_eq!(failure.to_string(), "body_template: cannot divide by 0 (line 1, column 18)");
}

#[test]
fn a_name_in_quotes_may_hold_quotes_and_signs() {
    let text = Compiled::compile(r#"{{ cf["a \"b\" \\ c"] }} {{ cf['d\te'] }}"#, Mode::Text).unwrap();
    assert_eq!(text.custom_fields().iter().collect::<Vec<_>>(), ["a \"b\" \\ c", "d\te"]);
}
