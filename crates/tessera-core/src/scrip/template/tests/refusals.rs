//! What is refused at save, and what fails when rendered: the sentences and the places.

use super::*;

#[test]
fn faults_say_where_and_what_to_do() {
    let source = "Grüße {$ticket.id}\n{{ ticket.sbject }} {$TicketSubjekt} {{ tiket.id }}\n{{ ticket.owner.mail }} {{ ticket.owner }} {{ ticket.subject.x }}\n{{ x }} {{ now | uper }} {{ now() }} {{ messages.content }} {% include \"x\" %}{% if now is evil %}{% endif %}";
    insta::assert_snapshot!(faults(source, Mode::Text), @r#"
    2:4 there is no variable "ticket.sbject"; did you mean "ticket.subject"?
    2:23 there is no variable "TicketSubjekt"; did you mean "TicketSubject"?
    2:41 there is no variable "tiket"; did you mean "ticket"?
    3:4 there is no variable "ticket.owner.mail"; did you mean "ticket.owner.email"?
    3:28 "ticket.owner" has parts; name one: "username", "name" and "email"
    3:47 "ticket.subject" has no parts
    4:4 there is no variable "x"; known are "ticket", "transaction", "batch", "messages", "queue", "actor", "scrip", "tessera" and "now"
    4:18 there is no filter "uper"; did you mean "upper"?
    4:29 there is no function "now"; known are "range"
    4:41 "messages" is a list; loop over it: {% for one in messages %}
    4:61 there is no tag "include"; known are "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    4:91 there is no test "evil"; known are "containing", "defined", "ending_with", "none", "number", "starting_with", "string" and "undefined"
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
      1:1 {$...} holds only a name such as ticket.id; write {{ ... }} for anything more
    "{# never"
      1:1 this comment is never closed; add "#}"
    "{{ 'never }}"
      1:4 this text is never closed; add '
    "{{ € }}"
      1:4 "€" cannot stand here
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
      1:11 a sign such as + or | is missing before this
    "{{ now 'x' }}"
      1:8 a sign such as + or | is missing before this
    "{% frobnicate %}"
      1:1 there is no tag "frobnicate"; known are "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
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
      1:1 there is no tag "set_global"; known are "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    "{% set x %}a{% endset %}"
      1:1 write {% set name = value %}; there is no {% endset %}
    1:13 there is no tag "endset"; known are "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    "{% set ticket = 1 %}"
      1:8 the name "ticket" is taken; choose another
    "{% for ticket in batch %}{% endfor %}"
      1:8 the name "ticket" is taken; choose another
    "{% raw %}{{ x }}{% endraw %}"
      1:1 there is no tag "raw"; known are "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    1:13 there is no variable "x"; known are "ticket", "transaction", "batch", "messages", "queue", "actor", "scrip", "tessera" and "now"
    1:17 there is no tag "endraw"; known are "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    "{% extends 'x' %}"
      1:1 there is no tag "extends"; known are "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    "{% import 'x' as y %}"
      1:1 there is no tag "import"; known are "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    "{% block x %}{% endblock %}"
      1:1 there is no tag "block"; known are "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    1:14 there is no tag "endblock"; known are "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    "{% filter upper %}{% endfilter %}"
      1:1 there is no tag "filter"; known are "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    1:19 there is no tag "endfilter"; known are "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    "{% component x() %}{% endcomponent %}"
      1:1 there is no tag "component"; known are "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    1:20 there is no tag "endcomponent"; known are "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    "{% <x> %}{% </x> %}"
      1:1 there is no tag ""; known are "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    1:10 there is no tag ""; known are "if", "elif", "else", "endif", "for", "endfor", "set", "break" and "continue"
    "{{ <x /> }}"
      1:4 components are not offered
    "{{ get_env(name='HOME') }}"
      1:4 there is no function "get_env"; known are "range"
    "{{ throw(message='x') }}"
      1:4 there is no function "throw"; known are "range"
    "{{ __tera_context }}"
      1:4 there is no variable "__tera_context"; known are "ticket", "transaction", "batch", "messages", "queue", "actor", "scrip", "tessera" and "now"
    "{{ 'a' ~ 'b' }}"
      1:8 "~" is not offered; write {{ a }}{{ b }}, or a | append(text=b)
    "{{ {'a': 1} }}"
      1:4 a map cannot be written here
    "{{ [x for x in batch] }}"
      1:5 a list in brackets holds only texts and numbers
    "{{ [ticket.number] }}"
      1:5 a list in brackets holds only texts and numbers
    "{{ [...batch] }}"
      1:5 a dot follows a name
    "{{ ticket.subject | safe }}"
      1:21 there is no filter "safe"; did you mean "date"?
    "{{ ticket.subject | truncate(len=3) }}"
      1:30 there is no argument "len"; did you mean "end"?
    "{{ loop.index }}"
      1:4 there is no variable "loop"; known are "ticket", "transaction", "batch", "messages", "queue", "actor", "scrip", "tessera" and "now"
    "{% for a in batch %}{% for b in batch %}{% for c in batch %}{% endfor %}{% endfor %}{% endfor %}"
      1:41 loops may stand in each other 2 deep, no deeper
    "a\0b"
      1:2 a control character cannot stand here; remove U+0000
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
      a list is needed, this is string (line 1, column 15)
    "{% set o = ticket.owner %}{{ o }}"
      o has parts; name one of them (line 1, column 30)
    "{{ ticket.requestors }}"
      ticket.requestors is a list of things with parts; loop over it (line 1, column 4)
    "{{ ticket.subject | date }}"
      "Prüfung <b>"fire"</b> & more" is not a time (line 1, column 21)
    "{{ ticket.number / 0 }}"
      Cannot divide by 0 (line 1, column 20)
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
    headers.: is not the name of a header; use letters, digits and hyphens
    headers.BCC: is a header that Tessera writes itself; leave it out
    headers.Content-Type: is a header that Tessera writes itself; leave it out
    headers.X Space: is not the name of a header; use letters, digits and hyphens
    headers.X-Colon:: is not the name of a header; use letters, digits and hyphens
    headers.X-Tessera-Ticket: is a header that Tessera writes itself; leave it out
    headers.X-Ü: is not the name of a header; use letters, digits and hyphens
    headers.x-twice: stands here twice, in capitals and small letters; keep one
    subject_template: there is no variable "nope"; did you mean "now"?
    body_template: there is no variable "nope"; did you mean "now"?
    headers.X-Line: a control character cannot stand here; this must be one line without any
    "#);
}
