//! Costs: what a text reads is charged, so that a hostile text stops at the same step every time.

use super::*;
use crate::models::Steps;

const CONTENT: usize = 64 * 1024;

fn with_content(content: &str) -> Context {
    let mut values = values();
    values["transaction"]["content"] = json!(content);
    Context::from_serialize(&values).unwrap()
}

#[test]
fn a_text_that_reads_much_stops_at_its_limit_and_takes_no_more() {
    let variables = with_content(&"a".repeat(CONTENT));
    for body in [
        "{% if transaction.content is containing(pat='aaaaaaaaab') %}{% endif %}",
        "{% if transaction.content is not containing(pat=transaction.content) %}{% endif %}",
        "{% set x = transaction.content | upper %}",
        "{% set x = transaction.content | lower %}",
        "{% set x = transaction.content | trim %}",
        "{% set x = transaction.content | quote %}",
        "{% set x = transaction.content | length %}",
        "{% set x = transaction.content | urlencode %}",
        "{% set x = transaction.content | json %}",
        "{% set x = transaction | json %}",
        "{% set x = transaction.content | append(text='b') %}",
        "{% set x = 'b' | append(text=transaction.content) %}",
        "{% set x = transaction.content | replace(from='b', to='c') %}",
        "{% set x = 'b' | replace(from='b', to=transaction.content) %}",
        "{% set x = transaction.content | truncate(length=60000) %}",
        "{% set x = cf.Components | join(sep=transaction.content) %}",
        "{% set x = now | date(format=transaction.content) %}",
        "{% if true %}{% if true %}{% if true %}{% set x = 1 + 2 * 3 - 4 / 5 %}{% endif %}{% endif %}{% endif %}",
    ] {
        let source = format!(
            "{{% for a in range(end=200) %}}{{% for b in range(end=200) %}}{body}{{% endfor %}}{{% endfor %}}"
        );
        let text = Compiled::compile(&source, Mode::Text).unwrap();
        let left = Steps::new(3 * STEPS_MAX);
        let failure = within(&left, || text.render(&variables)).expect_err(body);
        assert!(failure.message.contains("(STEPS_MAX)"), "{body}: {failure}");
        assert_eq!(left.left(), 2 * STEPS_MAX, "{body}");
    }
}

#[test]
fn the_texts_of_a_request_share_its_steps() {
    let variables = with_content(&"a".repeat(CONTENT));
    let text = Compiled::compile("{{ transaction.content | upper }}", Mode::Text).unwrap();
    let taken = |given: u64| {
        let left = Steps::new(given);
        let rendered = within(&left, || text.render(&variables));
        (rendered.is_ok(), given - left.left())
    };
    let (is_rendered, once) = taken(STEPS_MAX);
    assert!(is_rendered && (8_000..20_000).contains(&once), "{once} steps for 64 KiB in capitals");
    assert_eq!(taken(STEPS_MAX), (true, once), "the same text takes the same steps");
    assert_eq!(taken(once), (true, once));
    assert_eq!(taken(once - 1), (false, once - 1), "none are left");

    let left = Steps::new(2 * once + once / 2);
    let rendered = within(&left, || [(); 3].map(|()| text.render(&variables).is_ok()));
    assert_eq!((rendered, left.left()), ([true, true, false], 0));
    assert!(text.render(&variables).is_ok(), "a text outside a request has its own steps");
}

#[test]
fn a_test_of_a_text_or_a_list_holds_as_before() {
    for (source, expected) in [
        ("{{ ticket.subject is containing(pat='fire') }}", "true"),
        ("{{ ticket.subject is not containing(pat='fire') }}", "false"),
        ("{{ cf.Components is containing(pat='web') }}", "true"),
        ("{{ cf.Components is containing(pat='we') }}", "false"),
        ("{{ actor.email is ending_with(pat='example.com') }}", "true"),
        ("{{ actor.email is starting_with(pat='example.com') }}", "false"),
    ] {
        assert_eq!(render(source, Mode::Text).as_deref(), Ok(expected), "{source}");
    }
}
