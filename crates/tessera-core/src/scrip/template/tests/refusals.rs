//! Templates rejected at save, and failures at run time: messages and positions.

use super::*;

#[test]
fn faults_say_where_and_what_to_do() {
    let source = "Grüße {$ticket.id}\n{{ ticket.sbject }} {$TicketSubjekt} {{ tiket.id }}\n{{ ticket.owner.mail }} {{ ticket.owner }} {{ ticket.subject.x }}\n{{ x }} {{ now | uper }} {{ now() }} {{ messages.content }} {% include \"x\" %}{% if now is evil %}{% endif %}";
    insta::assert_snapshot!(faults(source, Mode::Text), @r#"
    2:4 unknown variable "ticket.sbject"; did you mean "ticket.subject"?
    2:23 unknown variable "TicketSubjekt"; did you mean "TicketSubject"?
    2:41 unknown variable "tiket"; did you mean "ticket"?
    3:4 unknown variable "ticket.owner.mail"; did you mean "ticket.owner.email"?
    3:28 "ticket.owner" has parts; name one: "username", "name" and "email"
    3:47 "ticket.subject" has no parts
    4:4 unknown variable "x"; known variables: "ticket", "transaction", "batch", "messages", "queue", "actor", "scrip", "tessera" and "now"
    4:18 unknown filter "uper"; did you mean "upper"?
    4:29 unknown function "now"; known functions: "range"
    4:41 "messages" is a list; loop over it: {% for one in messages %}
    4:61 unknown tag "include"; known tags: "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    4:91 unknown test "evil"; known tests: "containing", "defined", "ending_with", "none", "number", "starting_with", "string" and "undefined"
    "#);
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
        "{% else %}",
        "{{ now) | upper | (now }}",
        "{{ (now }}",
        "{{ ticket number }}",
        "{{ now 'x' }}",
        "{% frobnicate %}",
    ];
    let all: Vec<_> =
        cases.iter().map(|source| format!("{source:?}\n  {}", faults(source, Mode::Text))).collect();
    insta::assert_snapshot!(all.join("\n"), @r##"
    "Grüße {$ticket.id}, {$ticket.number}\n  {{ ticket.number + }}"
      2:22 a value is missing here
    "ü {{ ticket.number"
      1:3 this is never closed; add "}}"
    "{$ticket.id"
      1:1 this is never closed; add "}"
    "{$ticket.id | upper}"
      1:1 {$...} can contain only a name, such as {$TicketSubject} or {$ticket.subject}; use {{ ... }} for anything else, as RT's Perl code is not supported
    "{# never"
      1:1 this comment is never closed; add "#}"
    "{{ 'never }}"
      1:4 this text is never closed; add '
    "{{ € }}"
      1:4 "€" is not allowed here
    "{{ }}"
      1:4 a value is missing here
    "{% if ticket.number %}x"
      1:1 this if is never closed; add {% endif %}
    "x{% endif %}"
      1:2 no if is open here
    "{% for x in batch %}{% endif %}"
      1:1 this for is never closed; add {% endfor %}
    1:21 no if is open here
    "{% else %}"
      1:1 no if or for is open here
    "{{ now) | upper | (now }}"
      1:7 no bracket is open here
    "{{ (now }}"
      1:9 a bracket is still open here; close it
    "{{ ticket number }}"
      1:11 an operator such as + or | is missing before this
    "{{ now 'x' }}"
      1:8 an operator such as + or | is missing before this
    "{% frobnicate %}"
      1:1 unknown tag "frobnicate"; known tags: "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    "##);
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
    insta::assert_snapshot!(all.join("\n"), @r#"
    "{% set_global x = 1 %}"
      1:1 unknown tag "set_global"; known tags: "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    "{% set x %}a{% endset %}"
      1:1 write {% set name = value %}; {% endset %} is not supported
    1:13 unknown tag "endset"; known tags: "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    "{% set ticket = 1 %}"
      1:8 the name "ticket" is taken; choose another
    "{% for ticket in batch %}{% endfor %}"
      1:8 the name "ticket" is taken; choose another
    "{% raw %}{{ x }}{% endraw %}"
      1:1 unknown tag "raw"; known tags: "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    1:13 unknown variable "x"; known variables: "ticket", "transaction", "batch", "messages", "queue", "actor", "scrip", "tessera" and "now"
    1:17 unknown tag "endraw"; known tags: "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    "{% extends 'x' %}"
      1:1 unknown tag "extends"; known tags: "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    "{% import 'x' as y %}"
      1:1 unknown tag "import"; known tags: "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    "{% block x %}{% endblock %}"
      1:1 unknown tag "block"; known tags: "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    1:14 unknown tag "endblock"; known tags: "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    "{% filter upper %}{% endfilter %}"
      1:1 unknown tag "filter"; known tags: "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    1:19 unknown tag "endfilter"; known tags: "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    "{% component x() %}{% endcomponent %}"
      1:1 unknown tag "component"; known tags: "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    1:20 unknown tag "endcomponent"; known tags: "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    "{% <x> %}{% </x> %}"
      1:1 unknown tag ""; known tags: "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    1:10 unknown tag ""; known tags: "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    "{{ <x /> }}"
      1:4 components are not supported
    "{{ get_env(name='HOME') }}"
      1:4 unknown function "get_env"; known functions: "range"
    "{{ throw(message='x') }}"
      1:4 unknown function "throw"; known functions: "range"
    "{{ __tera_context }}"
      1:4 unknown variable "__tera_context"; known variables: "ticket", "transaction", "batch", "messages", "queue", "actor", "scrip", "tessera" and "now"
    "{{ 'a' ~ 'b' }}"
      1:8 "~" is not supported; write {{ a }}{{ b }}, or a | append(text=b)
    "{{ {'a': 1} }}"
      1:4 map literals are not supported
    "{{ [x for x in batch] }}"
      1:5 a list literal can contain only texts and numbers
    "{{ [ticket.number] }}"
      1:5 a list literal can contain only texts and numbers
    "{{ [...batch] }}"
      1:5 a list literal can contain only texts and numbers
    "{{ ticket.subject | safe }}"
      1:21 unknown filter "safe"; did you mean "date"?
    "{{ ticket.subject | truncate(len=3) }}"
      1:30 unknown argument "len"; did you mean "end"?
    "{{ loop.index }}"
      1:4 unknown variable "loop"; known variables: "ticket", "transaction", "batch", "messages", "queue", "actor", "scrip", "tessera" and "now"
    "{% for a in batch %}{% for b in batch %}{% for c in batch %}{% endfor %}{% endfor %}{% endfor %}"
      1:41 loops can be nested at most 2 deep
    "a\0b"
      1:2 a control character is not allowed here; remove U+0000
    "#);
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
    insta::assert_snapshot!(all.join("\n"), @r#"
    "ü\n {$ticket.cf.Nope}"
      ticket.cf.Nope is not defined (line 2, column 4)
    "{{ ticket.number }} {{ cf[\"No such\"] | upper }}"
      a value given to this filter is not defined (line 1, column 40)
    "{% for one in batch %}{{ one.nope }}{% endfor %}"
      one.nope is not defined (line 1, column 26)
    "{% for one in ticket.subject %}{% endfor %}"
      a list is required, but this is a string (line 1, column 15)
    "{% set o = ticket.owner %}{{ o }}"
      o has parts; name one of them (line 1, column 30)
    "{{ ticket.requestors }}"
      ticket.requestors is a list of objects; loop over it (line 1, column 4)
    "{{ ticket.subject | date }}"
      "Prüfung <b>"fire"</b> & more" is not a time (line 1, column 21)
    "{{ ticket.number / 0 }}"
      cannot divide by 0 (line 1, column 18)
    "{{ cf.Zero }}"
      renders the character U+0000, which cannot be stored
    "#);
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
    insta::assert_snapshot!(told.join("\n"), @r#"
    headers.: is not a valid header name; use letters, digits and hyphens
    headers.BCC: is a header that Tessera sets; remove it
    headers.Content-Type: is a header that Tessera sets; remove it
    headers.X Space: is not a valid header name; use letters, digits and hyphens
    headers.X-Colon:: is not a valid header name; use letters, digits and hyphens
    headers.X-Tessera-Ticket: is a header that Tessera sets; remove it
    headers.X-Ü: is not a valid header name; use letters, digits and hyphens
    headers.x-twice: is listed twice, with different capitalization; keep one
    subject_template: unknown variable "nope"; did you mean "now"?
    body_template: unknown variable "nope"; did you mean "now"?
    headers.X-Line: a control character is not allowed here; this must be a single line
    "#);
}
