//! The variables of templates: all of them, with real values and with the fixed ones of the hash.

use super::*;
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
    assert_eq!(shown(false), json!([first]));
    assert_eq!(shown(true)[1]["content"], "for us");
    assert_eq!(shown(true).as_array().unwrap().len(), 2);
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
fn a_long_message_is_cut_between_characters() {
    let content = |body: String| {
        read(false, |draft, plan| {
            let mut transaction = plan.transactions[0].clone();
            transaction.content = Some(text(&body));
            let values = Variables::new(draft, Tense::Real).of(&transaction);
            values["transaction"]["content"].as_str().unwrap().to_owned()
        })
    };
    let most = 64 * 1024;
    assert_eq!(content("x".repeat(most)).len(), most);
    assert_eq!(content("x".repeat(most + 1)).len(), most);
    // Three bytes each, and 64 KiB is one more than a multiple of three.
    assert_eq!(content("€".repeat(most)).len(), most - 1);
}
