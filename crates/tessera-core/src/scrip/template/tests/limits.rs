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
fn so_many_brackets_may_be_open_and_not_one_more() {
    let of = |depth: usize| format!("{{{{ {}1{} }}}}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(render(&of(BRACKETS_MAX), Mode::Text).as_deref(), Ok("1"));
    assert!(faults(&of(BRACKETS_MAX + 1), Mode::Text).contains("more than 16 brackets"));
    assert!(faults(&of(BRACKETS_MAX + 9), Mode::Text).contains("more than 16 brackets"));
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
    let failure = Template::compile(&source).unwrap().render(&variables()).unwrap_err();
    assert_eq!(failure.to_string(), "body_template: Cannot divide by 0 (line 1, column 20)");
}

#[test]
fn a_name_in_quotes_may_hold_quotes_and_signs() {
    let text = Compiled::compile(r#"{{ cf["a \"b\" \\ c"] }} {{ cf['d\te'] }}"#, Mode::Text).unwrap();
    assert_eq!(text.custom_fields().iter().collect::<Vec<_>>(), ["a \"b\" \\ c", "d\te"]);
}
