//! Operators: precedence, parts and slices, and values that are unset, not numbers, or written in another case.

use super::*;

#[track_caller]
fn says(source: &str, expected: &str) {
    assert_eq!(render(source, Mode::Text).as_deref(), Ok(expected), "{source}");
}

#[test]
fn operators_bind_as_in_tera() {
    for (source, expected) in [
        ("{{ 1 + 2 * 3 - 4 }}", "3"),
        ("{{ (1 + 2) * 3 }}", "9"),
        ("{{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 2 ** -1 }}", "512 4 0.5"),
        ("{{ 10 - 3 - 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }}", "5 3 -4 2 3.5"),
        ("{{ 1 + 'abc' | length }}", "4"),
        ("{{ not 1 == 2 and 3 > 2 }} {{ true and not false or false }}", "true true"),
        ("{{ 'a' in 'abc' }} {{ 'x' not in 'abc' }} {{ not 'x' in 'abc' }}", "true true true"),
        (
            "{{ 2 in [1, -2, 2] }} {{ 'web' in cf.Components }} {{ 'mail' not in cf.Components }}",
            "true true true",
        ),
        ("{{ 1 if 2 > 3 else 4 if 5 > 4 else 6 }}", "4"),
        ("{{ ticket.due_at or 'none' }} {{ ticket.queue and 1 + 1 }}", "none 2"),
        ("{{ ticket.queue is string == true }} {{ ticket.queue is not none and 1 < 2 }}", "true true"),
        ("{{ -ticket.number }} {{ - ticket.number + 2 }} {{ 1 - -1 }}", "-42 -40 2"),
        ("{{ batch[0].type }} {{ batch[-1]['type'] }} {{ (batch | last).type }}", "Status Comment Comment"),
        ("{{ batch | first[\"type\"] }}", "Status"),
        (
            "{{ ticket.subject[:3] }} {{ ticket.status[1:-1] }} {{ cf.Components[1:] }} {{ 'abc'[0] }}",
            "Prü pe api a",
        ),
        ("{{ ['a', 'b'][1] }} {{ [[1, 2], [3]] | length }}", "b 2"),
        ("{% set t = transaction %}{{ t.creator.name }} {{ t?.creator?['name'] }}", "Ann Lee Ann Lee"),
        (
            "{{ 1.5 + 1 }} {{ 1 == 1.0 }} {{ 'b' > 'a' }} {{ 3 >= 3 }} {{ 3 <= 2 }}",
            "2.5 true true true false",
        ),
        (
            "{% set n = ticket.priority %}{{ ticket.subject is containing(pat='fire') }} {{ n + 1 }}",
            "true 51",
        ),
    ] {
        says(source, expected);
    }
}

/// `ticket.due_at`, `cf.Note` and the owner's address are unset.
#[test]
fn an_unset_value_ends_no_rendering() {
    for (source, expected) in [
        ("b{% if ticket.due_at > now %} later{% endif %}", "b"),
        ("b{% if ticket.due_at < now %} late{% endif %}{% if now >= ticket.due_at %} late{% endif %}", "b"),
        (
            "{{ ticket.due_at == null }} {{ ticket.due_at != now }} {{ ticket.due_at <= null }}",
            "true true false",
        ),
        ("[{{ ticket.due_at + 1 }}{{ 2 * ticket.due_at }}{{ -ticket.due_at }}{{ ticket.due_at / 0 }}]", "[]"),
        ("{{ ticket.due_at + 1 > 0 }}", "false"),
        ("[{{ ticket.due_at[:10] }}{{ ticket.due_at[0] }}{{ ticket.due_at | date | upper }}]", "[]"),
        ("{{ 'a' in cf.Note }} {{ 'a' not in cf.Note }} {{ cf.Note in 'abc' }}", "false true false"),
        ("{{ cf.Note is containing(pat='a') }} {{ 'abc' is containing(pat=cf.Note) }}", "false false"),
        ("{{ cf.Note is starting_with(pat='a') }} {{ cf.Note is not ending_with(pat='a') }}", "false true"),
        (
            "[{{ (ticket.cc | first).address }}{{ ticket.cc[0].address }}{{ ticket.requestors[9].name }}]",
            "[]",
        ),
        ("[{{ cf[ticket.due_at] }}{{ batch[ticket.due_at] }}]", "[]"),
        ("{% for one in ticket.due_at %}x{% endfor %}{% if not ticket.due_at %}none{% endif %}", "none"),
        ("{{ cf.Nope is defined }} {{ cf.Nope == 'x' }} {{ cf.Nope | default(value='-') }}", "false false -"),
    ] {
        says(source, expected);
    }
}

#[test]
fn times_are_compared_as_times_and_texts_of_digits_as_numbers() {
    let mut values = values();
    values["ticket"]["due_at"] = json!("2026-03-04T09:30:00.5Z");
    values["ticket"]["cf"]["Amount"] = json!("12");
    values["ticket"]["cf"]["Rate"] = json!(" 1.5 ");
    let context = Context::from_serialize(&values).unwrap();
    for (source, expected) in [
        ("{{ ticket.due_at > now }} {{ now < ticket.due_at }} {{ now > ticket.due_at }}", "true true false"),
        ("{{ ticket.due_at > '2026-03-04' }} {{ ticket.due_at < '2026-03-05' }}", "true true"),
        (
            "{{ cf.Amount > 5 }} {{ 5 > cf.Amount }} {{ cf.Amount * 2 + 1 }} {{ cf.Rate + 1 }}",
            "true false 25 2.5",
        ),
        ("{{ cf.Severity > 5 }} {{ 5 <= cf.Severity }}", "false false"),
    ] {
        let text = Compiled::compile(source, Mode::Text).unwrap();
        assert_eq!(text.render(&context).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn the_number_of_a_new_ticket_is_new_in_every_calculation() {
    let mut values = values();
    values["ticket"]["number"] = json!(NEW_NUMBER);
    let context = Context::from_serialize(&values).unwrap();
    for (source, expected) in [
        (
            "{{ ticket.number + 1 }} {{ 2 * ticket.number }} {{ -ticket.number }} {{ ticket.number % 2 }}",
            "new new new new",
        ),
        (
            "{{ ticket.number > 5 }} {{ ticket.number == 5 }} {{ ticket.number * 2 >= 0 }}",
            "false false false",
        ),
        ("[{{ batch[ticket.number] }}] {{ ticket.subject[:ticket.number] | length }}", "[] 28"),
        ("{{ ticket.number // 10 }}{{ ticket.number ** 2 }}{{ ticket.number / 4 - 1 }}", "newnewnew"),
    ] {
        let text = Compiled::compile(source, Mode::Text).unwrap();
        assert_eq!(text.render(&context).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn a_field_is_found_in_any_case() {
    for source in [
        "{{ cf.severity }}",
        "{{ cf.SEVERITY }}",
        "{{ ticket.cf.severity | lower }}",
        "{{ ticket.cf['sEVERITY'] }}",
        "{{ ticket['cf']?.severity }}",
        "{$cf.severity}",
        "{$TicketCFseverity}",
        "{{ TicketCFSEVERITY }}",
        "{% set name = 'severity' %}{{ cf[name] }}",
        "{% set name = 'SEV' %}{{ ticket.cf[name | append(text='erity')] }}",
        "{% set all = ticket.cf %}{{ all.severity }}",
        "{% set t = ticket %}{{ t.cf.severity }}",
        "{{ cf.severity if cf.severity is defined and cf.severity == 'high' else 'no' }}",
    ] {
        says(source, "high");
    }
    says("{$TicketCFFirstName} {$TicketCFfirstname} {{ cf['first name'] }}", "Eve Eve Eve");
    // Two fields may differ in case alone; then case counts.
    let mut values = values();
    values["ticket"]["cf"]["severity"] = json!("low");
    let text = Compiled::compile("{{ cf.severity }} {{ cf.Severity }}", Mode::Text).unwrap();
    assert_eq!(text.render(&Context::from_serialize(&values).unwrap()).as_deref(), Ok("low high"));
}

#[test]
fn what_an_operator_cannot_do_says_so_with_its_place() {
    let cases = [
        "{{ ticket.subject + 1 }}",
        "{{ 2 ** 200 }}",
        "{{ cf.Nope + 1 }}",
        "{{ cf.Nope > 1 }}",
        "{{ batch > 1 }}",
        "{{ 1 in 2 }}",
        "{{ cf.Nope.x }}",
        "{% for one in batch %}{{ one.type.x }}{% endfor %}",
        "{{ cf.Nope[0] }}",
        "{{ ticket.priority[0] }}",
        "{{ batch[1.5] }}",
    ];
    let shown = |source: &&str| {
        let told = Compiled::compile(source, Mode::Text).map(|text| text.render(&variables()));
        match told {
            Ok(rendered) => rendered.expect_err(source).to_string(),
            Err(_) => faults(source, Mode::Text),
        }
    };
    let all: Vec<_> = cases.iter().map(shown).collect();
    insta::assert_snapshot!(all.join("\n"), @r#"
    "Prüfung <b>"fire"</b> & more" is not a number (line 1, column 19)
    the result of this calculation is too large (line 1, column 6)
    a value in this calculation is not defined (line 1, column 12)
    a value in this comparison is not defined (line 1, column 12)
    a list cannot be compared with a number (line 1, column 10)
    a text or a list is required, but this is a number (line 1, column 6)
    1:4 a custom field has no part "x"; write ticket.cf["Nope"]
    a text has no parts (line 1, column 34)
    a value with parts is not defined here (line 1, column 11)
    a number has no parts (line 1, column 19)
    an index is a whole number (line 1, column 9)
    "#);
    assert!(faults("{{ 1 if now }}", Mode::Text).contains("\"else\" is missing here"));
    assert!(faults("{{ now[::2] }}", Mode::Text).contains("1:9 a slice has no step; write [from:to]"));
}
