//! The variables of templates: all of them, with real values and with the fixed ones of the hash.

use super::*;
use crate::models::delivery::Payload;
use crate::models::text::CONTENT_MAX;
use crate::plan::command::Difference;
use crate::plan::draft::Draft;
use crate::plan::situation::PastMessage;
use crate::plan::variables::{Tense, Variables};
use std::collections::HashMap;

/// Builds a ticket with a value in every member. Returns the result of `read`.
fn read<T>(new: bool, read: impl FnOnce(&Draft<'_>, &Plan) -> T) -> T {
    let catalog = Desk::new().open();
    let people = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let command = CreateTicket {
        owner: Some("ann".to_owned()),
        priority: Some(5),
        due_at: Some(NOW),
        requestors: people(&["eve@example.net", "bob"]),
        cc: people(&["c@example.net"]),
        admin_cc: people(&["ann"]),
        custom_fields: BTreeMap::from([
            ("Severity".to_owned(), people(&["high"])),
            ("Components".to_owned(), people(&["web", "db"])),
        ]),
        content: Some(text("It burns.")),
        ..new_ticket()
    };
    let made = create(&catalog, command).unwrap();
    let difference = Difference { add: Vec::new(), remove: people(&["c@example.net"]) };
    let change = UpdateTicket {
        reply: Some(text("done")),
        watchers: BTreeMap::from([(Role::Cc, difference)]),
        ..status("resolved")
    };
    let plan = if new { made } else { update(&catalog, &made.ticket, change).unwrap() };
    let message = |transaction_type, content: &str| PastMessage {
        transaction_type,
        creator: UserId(id(11)),
        created_at: NOW,
        content: content.to_owned(),
        is_cut: false,
    };
    let situation = Situation {
        ticket: plan
            .before
            .clone()
            .map_or(Target::New { number: Some(42) }, |ticket| Target::Existing(Box::new(ticket))),
        people: People::default(),
        messages: vec![
            message(TransactionType::Create, "It burns."),
            message(TransactionType::Comment, "for us"),
        ],
    };
    let context = Context { now: plan.now, ..context(3) };
    let draft = Draft {
        catalog: &catalog,
        situation: &situation,
        context: &context,
        ids: context.ids.clone(),
        ticket: plan.ticket.clone(),
        transactions: plan.transactions.clone(),
        depths: Vec::new(),
    };
    read(&draft, &plan)
}

#[test]
fn a_template_sees_all_of_a_ticket_and_of_what_changed_it() {
    let values = read(false, |draft, plan| Variables::new(draft, Tense::Real).of(&plan.transactions[0]));
    insta::assert_snapshot!(serde_json::to_string_pretty(&values).unwrap());
}

#[test]
fn the_hash_takes_a_new_ticket_without_ids_times_and_number() {
    let fixes = HashMap::from([("It burns.".to_owned(), "fixed".to_owned())]);
    let values = |new| {
        read(new, |draft, plan| {
            let tense = Tense::Fixed(&fixes);
            let values = Variables::new(draft, tense).of(&plan.transactions[0]);
            ["id", "number", "url", "created_at", "updated_at", "due_at"]
                .map(|key| values["ticket"][key].clone())
                .into_iter()
                .chain([values["now"].clone(), values["transaction"]["content"].clone()])
                .map(|value| value.to_string().replace('"', ""))
                .collect::<Vec<_>>()
        })
    };
    let (nil, epoch, due) = (Uuid::nil().to_string(), "1970-01-01T00:00:00Z", "2026-11-23T10:00:00.123456Z");
    // The due time of the create is the moment of the request itself.
    assert_eq!(
        values(true),
        [&nil, "new", "https://desk.example/t/new", epoch, epoch, epoch, epoch, "fixed"]
    );
    assert_eq!(values(false), [&nil, "42", "https://desk.example/t/42", due, epoch, due, epoch, "done"]);
}

#[test]
fn comments_are_among_the_past_messages_of_a_comment_only() {
    let shown = |comments| read(false, |draft, _| Variables::new(draft, Tense::Real).messages(comments));
    let first = json!({"type": "Create", "content": "It burns.", "creator": "ann", "created_at": "2026-11-23T10:00:00.123456Z"});
    let reply = json!({"type": "Correspond", "content": "done", "creator": "admin", "created_at": "2026-11-23T11:00:00.123456Z"});
    assert_eq!(shown(false), json!([first, reply]));
    assert_eq!(shown(true)[1]["content"], "for us");
    assert_eq!(shown(true).as_array().unwrap().len(), 3);
}

#[test]
fn a_scrip_speaks_of_itself() {
    let catalog = Desk::new()
        .scrip(
            "Sign",
            ("OnCreate", json!({})),
            ("SetSubject", json!({"value": "{{ scrip.name }} {{ scrip.version }} {{ scrip.description }}."})),
            json!({}),
        )
        .open();
    assert_eq!(create(&catalog, new_ticket()).unwrap().ticket.subject, "Sign 3 .");
}

#[test]
fn a_transaction_is_described_in_words() {
    let watcher = || Watcher { id: WatcherId(id(1)), user: None, address: None };
    let field = || Change::CustomField { field: CustomFieldId(id(300)), removed: None, added: None };
    let due = || Change::Due { old: None, new: None };
    let table: [(Change, Option<&str>, Option<&str>, &str); 11] = [
        (Change::Correspond, None, None, "Correspondence added"),
        (Change::Comment, None, None, "Comments added"),
        (Change::AddWatcher { role: Role::Cc, watcher: watcher() }, None, Some("eve"), "F eve added"),
        (Change::DelWatcher { role: Role::Cc, watcher: watcher() }, Some("eve"), None, "F eve deleted"),
        (field(), None, Some("low"), "F low added"),
        (field(), Some("low"), None, "F low deleted"),
        (field(), Some("low"), Some("high"), "F changed from 'low' to 'high'"),
        (Change::SystemError { reason: "x".to_owned() }, None, Some("no"), "System error: no"),
        (due(), None, Some("then"), "F set to 'then'"),
        (due(), Some("then"), None, "F 'then' deleted"),
        (due(), None, None, "Status"),
    ];
    let describe = |change: &Change, old: Option<&str>, new: Option<&str>| {
        read(false, |draft, plan| {
            let status = plan.transactions.iter().find(|one| one.transaction_type == TransactionType::Status);
            let mut transaction = status.unwrap().clone();
            transaction.change = change.clone();
            transaction.field = Some("F".to_owned());
            (transaction.old_value, transaction.new_value) = (old.map(str::to_owned), new.map(str::to_owned));
            Variables::new(draft, Tense::Real).of(&transaction)["transaction"]["description"].clone()
        })
    };
    for (change, old, new, words) in table {
        assert_eq!(describe(&change, old, new), words);
    }
    let status = read(false, |draft, plan| {
        let status = plan.transactions.iter().find(|one| one.transaction_type == TransactionType::Status);
        Variables::new(draft, Tense::Real).of(status.unwrap())["transaction"]["description"].clone()
    });
    assert_eq!(status, "Status changed from new to resolved");
}

#[test]
fn a_long_message_is_cut_between_characters_with_a_mark_except_in_mail() {
    let contents = |body: String| {
        read(false, |draft, plan| {
            let mut transaction = plan.transactions[0].clone();
            transaction.content = Some(text(&body));
            let variables = Variables::new(draft, Tense::Real);
            let content = |value: &Value| value["content"].as_str().unwrap().to_owned();
            let cut = Value::Object(variables.of(&transaction));
            (content(&cut["transaction"]), content(&variables.whole(&transaction)))
        })
    };
    let (most, mark) = (64 * 1024, "\n[This message is longer; read all of it at https://desk.example/t/42]");
    let (cut, whole) = contents("x".repeat(most));
    assert_eq!((cut.len(), whole.len()), (most, most));
    let (cut, whole) = contents("x".repeat(most + 1));
    assert_eq!((cut.len(), cut.ends_with(mark), whole.len()), (most, true, most + 1));
    // Three bytes each.
    let (cut, whole) = contents("€".repeat(most));
    assert!(cut.len() > most - 3 && cut.ends_with(mark) && whole.len() == 3 * most);
}

#[test]
fn messages_hold_the_one_at_hand_and_the_newest_five_besides_the_first() {
    let message = |n: u8| PastMessage {
        transaction_type: TransactionType::Correspond,
        creator: UserId(id(11)),
        created_at: NOW,
        content: n.to_string(),
        is_cut: n == 1,
    };
    let words = "{% for one in messages %}[{{ one.content }}]{% endfor %}";
    let mail = ("SendEmail", json!({"to": ["x@example.net"]}));
    let desk = Desk::new().template("T", "s", words);
    let desk = desk.scrip("Create", ("OnCreate", json!({})), mail.clone(), json!({"template": "T"}));
    let catalog = desk.scrip("Reply", ("OnCorrespond", json!({})), mail, json!({"template": "T"})).open();
    let sent = |plan: &Plan| match &plan.deliveries[0].payload {
        Payload::Email(email) => email.text.clone(),
        other => panic!("a mail was expected: {other:?}"),
    };
    let made = create(&catalog, CreateTicket { content: Some(text("first")), ..new_ticket() }).unwrap();
    assert_eq!(sent(&made), "[first]");
    let replied = |past: u8| {
        let situation = Situation {
            ticket: Target::Existing(Box::new(made.ticket.clone())),
            people: People::default(),
            messages: (1..=past).map(message).collect(),
        };
        let reply = UpdateTicket { reply: Some(text("now")), ..UpdateTicket::default() };
        sent(&prepare(&catalog, &situation, &Command::Update(reply), &context(2)).unwrap())
    };
    let first = "[1\n[This message is longer; read all of it at https://desk.example/t/42]]";
    assert_eq!(replied(0), "[now]");
    assert_eq!(replied(2), format!("{first}[2][now]"));
    assert_eq!(replied(6), format!("{first}[3][4][5][6][now]"));
}

#[test]
fn a_reply_is_mailed_whole_and_a_mail_that_is_too_long_says_where_the_rest_is() {
    let desk = |body: &str| {
        let mail = ("SendEmail", json!({"to": ["x@example.net"]}));
        let hook = ("Webhook", json!({"url": "https://x.example", "body": "{{ transaction.content }}"}));
        let desk = Desk::new().template("T", "{{ transaction.content }}", body);
        let desk = desk.scrip("Mail", ("OnCreate", json!({})), mail, json!({"template": "T"}));
        desk.scrip("Hook", ("OnCreate", json!({})), hook, json!({})).open()
    };
    let sent = |body: &str, content: &str| {
        let command = CreateTicket { content: Some(text(content)), ..new_ticket() };
        let plan = create(&desk(body), command).unwrap();
        assert_eq!(verdicts(&plan), ["Mail: fired", "Hook: fired"]);
        match (&plan.deliveries[0].payload, &plan.deliveries[1].payload) {
            (Payload::Email(email), Payload::Webhook(hook)) => (email.clone(), hook.body.clone()),
            other => panic!("a mail and a webhook were expected: {other:?}"),
        }
    };
    let long = "line\n".repeat(CONTENT_MAX / 5) + "!";
    let (mail, hook) = sent("Hello,\n{{ transaction.content }}\nBye", &long);
    assert_eq!(mail.text, format!("Hello,\n{long}\nBye"));
    assert!(mail.subject.len() < 2_100 && mail.subject.ends_with("..."), "{}", mail.subject.len());
    assert!(
        hook.len() < 80_000
            && hook.contains("This message is longer; read all of it at https://desk.example/t/42")
    );
    let (mail, _) = sent("{{ transaction.content }}{{ transaction.content | quote }}", &long);
    assert!(mail.text.ends_with("\n\n[This mail is longer; read all of it at https://desk.example/t/42]\n"));
}

#[test]
fn a_line_break_in_a_value_for_a_subject_becomes_a_blank() {
    let set = ("SetSubject", json!({"value": "{{ transaction.content }}"}));
    let catalog = Desk::new().scrip("Set", ("OnCreate", json!({})), set, json!({})).open();
    let command = CreateTicket { content: Some(text("It burns.\r\nAgain.\n")), ..new_ticket() };
    assert_eq!(create(&catalog, command).unwrap().ticket.subject, "It burns. Again.");
}

#[test]
fn a_calculation_with_the_number_of_a_new_ticket_is_planned_alike_in_its_preview() {
    let words = "{{ ticket.number + 1 }} {{ ticket.number % 10 > 1 }}";
    let mail = ("SendEmail", json!({"to": ["x@example.net"]}));
    let desk = Desk::new().template("T", words, words);
    let desk = desk.scrip("Mail", ("OnCreate", json!({})), mail, json!({"template": "T"}));
    let value = json!({"value": "{{ ticket.number * 2 }}"});
    let catalog = desk.scrip("Set", ("OnCreate", json!({})), ("SetSubject", value), json!({})).open();
    let planned = |number| {
        let situation =
            Situation { ticket: Target::New { number }, people: People::default(), messages: Vec::new() };
        let plan = prepare(&catalog, &situation, &Command::Create(new_ticket()), &context(1)).unwrap();
        assert_eq!(verdicts(&plan), ["Mail: fired", "Set: fired"]);
        let Payload::Email(email) = &plan.deliveries[0].payload else { panic!("a mail was expected") };
        (email.text.clone(), plan.ticket.subject.clone(), plan.hash)
    };
    let (preview, made) = (planned(None), planned(Some(42)));
    assert_eq!((preview.0.as_str(), preview.1.as_str()), ("new false", "new"));
    assert_eq!((made.0.as_str(), made.1.as_str()), ("43 true", "84"));
    assert_eq!(preview.2, made.2, "the hash does not depend on the number");
}
