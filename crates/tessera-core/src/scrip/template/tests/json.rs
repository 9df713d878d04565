//! JSON: texts that no values make valid are refused when they are saved, and all others are not.

use super::*;

#[test]
fn what_can_never_be_json_is_refused_with_its_place() {
    for (source, place) in [
        (r#"{"s": }"#, "1:7"),
        (r#"{"s": 1,}"#, "1:9"),
        ("{'s': 1}", "1:2"),
        ("{\n  \"s\": {{ ticket.subject }},\n}", "3:1"),
        (r#"{"s": {{ ticket.subject }} "t"}"#, "1:28"),
        (r#"{"s": "{{ ticket.subject }}" oops}"#, "1:30"),
        (r#"{"s": 1"#, "1:7"),
        ("plain words", "1:1"),
        (r#"{{ ticket.subject }} {{ ticket.status }}"#, "1:22"),
        (r#"{"s": 1,, {% if now %}"t": 1{% endif %}}"#, "1:9"),
        (r#"{% set x = 1 %}{"s": }"#, "1:22"),
        (r#"{"n": 0{{ ticket.number }}}"#, "1:8"),
        ("{s: 1}", "1:2"),
        ("{\"s\": \"a\tb\"}", "1:8"),
        (r#"{"s": "\x"}"#, "1:9"),
        ("// a note\n{}", "1:1"),
    ] {
        let found = faults(source, Mode::Json);
        assert!(found.contains("cannot become valid JSON"), "{source}: {found}");
        assert!(found.starts_with(&format!("{place} ")), "{source}: {found}");
    }
}

#[test]
fn what_values_can_make_json_is_accepted() {
    for source in [
        "",
        "  {# nothing #} ",
        r#"{"s": {{ ticket.subject }}, "n": {{ ticket.number }}}"#,
        r#"{ {{ ticket.subject }}: 1 }"#,
        r#"{"s": "a{{ ticket.subject }}b{{ ticket.status }}"}"#,
        r#"{"n": -{{ ticket.number }}, "m": 1{{ ticket.number }}, "e": {{ ticket.number }}e2}"#,
        r#"[{{ ticket.number }}{{ ticket.priority }}]"#,
        r#"{"cf": {{ ticket.cf | json }}}"#,
        r#"{"s": 1{% if now %}, "t": 2{% endif %}}"#,
        r#"[{% for one in batch %}{{ one.type }}{% if not loop.last %},{% endif %}{% endfor %}]"#,
        r#"{% set x = 1 %}{"s": {{ x }}}"#,
        r#"{{ ticket.subject }}"#,
        r#"{$ticket.subject}"#,
        r#"{"s": "\"{{ ticket.subject }}\\"}"#,
        "42",
    ] {
        assert_eq!(faults(source, Mode::Json), "", "{source}");
    }
}
