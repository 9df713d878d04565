//! RT's simple templates: what they mean works, and Perl code is refused with its place.

use super::*;

#[test]
fn a_name_in_braces_prints_its_value_with_blanks_or_without() {
    for (source, expected) in [
        ("{$TicketId} { $TicketId } {\t$TicketId\n}", "42 42 42"),
        ("{ $rtname }: { $TicketStatus }/{ $TransactionType }", "desk: open/Status"),
        ("Dear { $Requestor },", "Dear eve@example.net, joe@example.net,"),
        ("{ $ticket.owner.username } { $cf['First Name'] }", "Nobody Eve"),
        ("{{ TicketStatus }}{ $TicketCFSeverity }", "openhigh"),
    ] {
        assert_eq!(render(source, Mode::Text).as_deref(), Ok(expected), "{source}");
    }
    assert_eq!(
        render(r#"{"s": "{ $TicketStatus }", "n": { $TicketId }}"#, Mode::Json).as_deref(),
        Ok(r#"{"s": "open", "n": 42}"#)
    );
}

#[test]
fn perl_code_is_refused_with_its_place_and_what_to_write() {
    let cases = [
        "Dear {$Requestor},\nyour ticket { $TicketSubject } has the tag { $Ticket->SubjectTag } { $rtname ",
        "{$Ticket->Subject} { $Ticket->id }",
        "See {RT->Config->Get('WebURL')}Ticket/Display.html",
        "{ RT->Config->Get(\"WebURL\") }",
        "{RT::Date->new}",
        "{ my $x = 1; $Transaction->Content }",
        "{ if ($Transaction->Content) { \"x\" } }",
        "Hello {loc(\"friend\")}",
        "{ \"Ticket \" . $Ticket->id }",
        "{$Ticket->QueueObj->Name || 'x'}",
        "{uc($Ticket->Subject)}",
        "{ $x =~ s/a/b/; $x }",
        "{ $Nonesuch }",
        "ü\n  {RT->Config",
    ];
    let all: Vec<_> =
        cases.iter().map(|source| format!("{source:?}\n  {}", faults(source, Mode::Text))).collect();
    insta::assert_snapshot!(all.join("\n"), @r##"
    "Dear {$Requestor},\nyour ticket { $TicketSubject } has the tag { $Ticket->SubjectTag } { $rtname "
      2:68 this is never closed; add "}"
    "{$Ticket->Subject} { $Ticket->id }"
      1:1 {$...} can contain only a name, such as {$TicketSubject} or {$ticket.subject}; use {{ ... }} for anything else, as RT's Perl code is not supported; write {$TicketSubject} here
    1:20 {$...} can contain only a name, such as {$TicketSubject} or {$ticket.subject}; use {{ ... }} for anything else, as RT's Perl code is not supported; write {$TicketId} here
    "See {RT->Config->Get('WebURL')}Ticket/Display.html"
      1:5 RT's Perl code is not supported; write a name, such as {$TicketSubject}, or {{ ... }}; for a brace in the text, write {{ "{" }}
    "{ RT->Config->Get(\"WebURL\") }"
      1:1 RT's Perl code is not supported; write a name, such as {$TicketSubject}, or {{ ... }}; for a brace in the text, write {{ "{" }}
    "{RT::Date->new}"
      1:1 RT's Perl code is not supported; write a name, such as {$TicketSubject}, or {{ ... }}; for a brace in the text, write {{ "{" }}
    "{ my $x = 1; $Transaction->Content }"
      1:1 RT's Perl code is not supported; write a name, such as {$TicketSubject}, or {{ ... }}; for a brace in the text, write {{ "{" }}
    "{ if ($Transaction->Content) { \"x\" } }"
      1:1 RT's Perl code is not supported; write a name, such as {$TicketSubject}, or {{ ... }}; for a brace in the text, write {{ "{" }}
    "Hello {loc(\"friend\")}"
      1:7 RT's Perl code is not supported; write a name, such as {$TicketSubject}, or {{ ... }}; for a brace in the text, write {{ "{" }}
    "{ \"Ticket \" . $Ticket->id }"
      1:1 RT's Perl code is not supported; write a name, such as {$TicketSubject}, or {{ ... }}; for a brace in the text, write {{ "{" }}
    "{$Ticket->QueueObj->Name || 'x'}"
      1:1 {$...} can contain only a name, such as {$TicketSubject} or {$ticket.subject}; use {{ ... }} for anything else, as RT's Perl code is not supported
    "{uc($Ticket->Subject)}"
      1:1 RT's Perl code is not supported; write a name, such as {$TicketSubject}, or {{ ... }}; for a brace in the text, write {{ "{" }}
    "{ $x =~ s/a/b/; $x }"
      1:1 {$...} can contain only a name, such as {$TicketSubject} or {$ticket.subject}; use {{ ... }} for anything else, as RT's Perl code is not supported
    "{ $Nonesuch }"
      1:4 unknown variable "Nonesuch"; known variables: "ticket", "transaction", "batch", "messages", "queue", "actor", "scrip", "tessera" and "now"
    "ü\n  {RT->Config"
      2:3 RT's Perl code is not supported; write a name, such as {$TicketSubject}, or {{ ... }}; for a brace in the text, write {{ "{" }}
    "##);
}

#[test]
fn braces_that_are_no_code_stay() {
    for text in [
        "{} {$} ${$1} ${HOME} { } {a} {a -> b} :{ and A->B",
        "p { color: red; } a > b { margin: -1px }",
        "{\"a\": \"$b\", \"c\": {\"d\": \"x->y {e}\"}, \"price\": \"$five\"}",
        "f(x) { return x } and {see eve@example.net} US$five {US$five}",
        "{ unclosed $x",
    ] {
        assert_eq!(render(text, Mode::Text).as_deref(), Ok(text), "{text}");
    }
    assert_eq!(render("{{ '{' }}$x{{ '}' }}", Mode::Text).as_deref(), Ok("{$x}"));
}
