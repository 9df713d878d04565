//! Searches on a real database: the results of each form of statement, pages in every order, counts, and exports.

use super::*;
use crate::db::search::{Count, Counted, Export, Search, explain, tickets};
use crate::db::tickets::TicketRef;
use crate::desk::Conditions;
use crate::models::Role;
use crate::models::transaction::Content;
use crate::models::user::ADMIN_USER;
use crate::plan::command::{CreateTicket, Difference, UpdateTicket};
use crate::query::sql::{Asker, Sorted};
use crate::query::{Dialect, Zone};
use std::collections::BTreeMap;

fn text(body: &str) -> Option<Content> {
    Some(Content::plain(body.to_owned()))
}

async fn make(desk: &Tessera, command: CreateTicket) -> TicketRef {
    let caller = desk.administrator().unwrap();
    let made = desk.create(&caller, command, &Conditions::default()).await.unwrap();
    TicketRef::Number(made.committed().summary.ticket.number.unwrap())
}

async fn update(desk: &Tessera, ticket: TicketRef, command: UpdateTicket) {
    desk.update(&desk.administrator().unwrap(), ticket, command, &Conditions::default()).await.unwrap();
}

/// Four tickets: 1 high in General, 2 low in Billing, 3 without anything, 4 deleted.
async fn filled() -> Desk {
    let desk = desk().await;
    add::<UserDocument>(
        &desk,
        json!({ "username": "anna", "email": "anna@desk.example", "privileged": true }),
    )
    .await
    .unwrap();
    add::<CustomFieldDocument>(
        &desk,
        json!({ "name": "Severity", "field_type": "SelectSingle", "values": ["high", "low"] }),
    )
    .await
    .unwrap();
    add::<CustomFieldDocument>(&desk, json!({ "name": "Tags", "field_type": "Freeform", "max_values": 0 }))
        .await
        .unwrap();
    let fields = json!(["Severity", "Tags"]);
    add::<QueueDocument>(&desk, json!({ "name": "Billing", "custom_fields": fields })).await.unwrap();
    change::<QueueDocument>(&desk, "General", json!({ "custom_fields": fields })).await.unwrap();
    let values = |pairs: &[(&str, &[&str])]| -> BTreeMap<String, Vec<String>> {
        pairs
            .iter()
            .map(|(name, values)| ((*name).to_owned(), values.iter().map(|v| (*v).to_owned()).collect()))
            .collect()
    };
    make(
        &desk,
        CreateTicket {
            queue: "General".to_owned(),
            subject: "Printer on fire".to_owned(),
            owner: Some("anna".to_owned()),
            priority: Some(50),
            requestors: vec!["bob@example.com".to_owned()],
            custom_fields: values(&[("Severity", &["high"]), ("Tags", &["Red", "blue", "10"])]),
            content: text("The printer burns, badly"),
            ..CreateTicket::default()
        },
    )
    .await;
    let second = make(
        &desk,
        CreateTicket {
            queue: "Billing".to_owned(),
            subject: "Wrong 100% invoice".to_owned(),
            requestors: vec!["anna".to_owned()],
            cc: vec!["bob@example.com".to_owned()],
            custom_fields: values(&[("Severity", &["low"]), ("Tags", &["9"])]),
            content: text("Please check the invoice"),
            ..CreateTicket::default()
        },
    )
    .await;
    update(
        &desk,
        second,
        UpdateTicket {
            status: Some("resolved".to_owned()),
            comment: text("done by fire brigade"),
            ..UpdateTicket::default()
        },
    )
    .await;
    make(
        &desk,
        CreateTicket {
            queue: "General".to_owned(), subject: "Éclair".to_owned(), ..CreateTicket::default()
        },
    )
    .await;
    let gone = make(
        &desk,
        CreateTicket { queue: "General".to_owned(), subject: "Spam".to_owned(), ..CreateTicket::default() },
    )
    .await;
    update(
        &desk,
        gone,
        UpdateTicket {
            status: Some("deleted".to_owned()),
            watchers: BTreeMap::from([(
                Role::AdminCc,
                Difference { add: vec!["anna".to_owned()], remove: Vec::new() },
            )]),
            ..UpdateTicket::default()
        },
    )
    .await;
    desk
}

fn search<'a>(query: &'a str, order: &'a [Sorted]) -> Search<'a> {
    let asker = Asker { user: ADMIN_USER, now: crate::desk::clock::now(), zone: Zone::utc() };
    Search { query, dialect: Dialect::Tessera, order, limit: 50, cursor: None, count: Count::Exact, asker }
}

async fn numbers(desk: &Desk, query: &str) -> Vec<i64> {
    let catalog = desk.fresh_catalog().await.unwrap();
    let found = tickets(&desk.pools.searches, &catalog, &search(query, &[]))
        .await
        .unwrap_or_else(|error| panic!("{query}: {error:?}"));
    explain(&desk.pools.searches, &catalog, &search(query, &[])).await.unwrap();
    let numbers: Vec<i64> = found.page.items.iter().filter_map(|ticket| ticket.number).collect();
    let tickets = i64::try_from(numbers.len()).unwrap();
    assert_eq!(found.count, Some(Counted { tickets, is_exact: true }), "{query}");
    numbers
}

#[tokio::test]
async fn every_form_of_statement_finds_the_tickets_of_its_query() {
    let desk = filled().await;
    for (query, expected) in [
        ("", &[3, 2, 1][..]),
        ("Status = 'deleted'", &[4]),
        ("Status != 'deleted'", &[3, 2, 1]),
        ("id = 1 OR id = 4", &[1]),
        ("id IN (1, 2) AND id > 1", &[2]),
        ("Subject = 'éCLAIR'", &[3]),
        ("Subject LIKE 'fire'", &[1]),
        ("Subject LIKE '100\\%'", &[2]),
        ("Subject LIKE '%\\%%'", &[2]),
        ("Subject NOT LIKE '_rong%'", &[3, 1]),
        ("Subject STARTSWITH 'print'", &[1]),
        ("Subject ENDSWITH 'OICE'", &[2]),
        ("Subject MATCHES 'invoice -printer'", &[2]),
        ("Status = __Active__", &[3, 1]),
        ("Status = __Inactive__", &[2]),
        ("Status LIKE 'res'", &[2]),
        ("Queue = billing", &[2]),
        ("Queue LIKE 'gen%'", &[3, 1]),
        ("Lifecycle = 'default'", &[3, 2, 1]),
        ("Owner = 'anna'", &[1]),
        ("Owner = Nobody", &[3, 2]),
        ("Owner IS NULL AND Owner != 'anna'", &[3, 2]),
        ("Owner.EmailAddress LIKE '%desk%'", &[1]),
        ("Creator = __CurrentUser__", &[3, 2, 1]),
        ("LastUpdatedBy = 'admin'", &[3, 2, 1]),
        ("Owner = Creator", &[]),
        ("Requestor = 'bob@example.com'", &[1]),
        ("Requestor = 'anna'", &[2]),
        ("Requestor LIKE '@example'", &[1]),
        ("Requestor.Name STARTSWITH 'ann'", &[2]),
        ("Requestor != 'anna'", &[3, 1]),
        ("Requestor IS NULL", &[3]),
        ("Watcher = 'bob@example.com'", &[2, 1]),
        ("Watcher IS NOT NULL", &[2, 1]),
        ("Requestor = 'anna' OR Owner = 'anna'", &[2, 1]),
        ("Priority > 10", &[1]),
        ("Priority BETWEEN -5 AND 0", &[3, 2]),
        ("Resolved IS NOT NULL", &[2]),
        ("Resolved != 'today'", &[3, 1]),
        ("Created = 'today' AND Created <= 'now'", &[3, 2, 1]),
        ("LastUpdated > Created", &[2]),
        ("CF.{Severity} = 'HIGH'", &[1]),
        ("CF.{Severity} != 'high'", &[3, 2]),
        ("CF.Severity IS NULL", &[3]),
        ("CF.Tags = 'red' AND CF.Tags = 'blue'", &[1]),
        ("CF.Tags IN ('red', 'blue', '9')", &[2, 1]),
        ("CF.Tags > 9.5", &[1]),
        ("CF.Tags BETWEEN 9 AND 10", &[2, 1]),
        ("CF.Tags < '9'", &[1]),
        ("CF.Tags LIKE 'e'", &[1]),
        ("CF.Severity = 'high' OR CF.Severity = 'low'", &[2, 1]),
        ("(CF.Severity = 'high' AND Queue = 'General') OR Subject MATCHES 'invoice'", &[2, 1]),
        ("CF.Severity = 'high' OR Priority < 1", &[3, 2, 1]),
        ("NOT (CF.Severity = 'high' OR CF.Severity IS NULL)", &[2]),
        ("NOT (CF.Severity = 'low' AND Queue = 'Billing')", &[3, 1]),
        ("Content MATCHES 'fire'", &[2, 1]),
        ("Content MATCHES 'fire' AND CF.Severity = 'low'", &[2]),
        ("Content MATCHES 'printer' AND Content MATCHES 'fire'", &[1]),
        ("Content NOT MATCHES 'fire'", &[3]),
        ("Content LIKE 'brigade'", &[2]),
        ("Content MATCHES '\"the invoice\"' OR Priority = 50", &[2, 1]),
        ("Updated > 'yesterday' AND UpdatedBy = 'admin'", &[3, 2, 1]),
        ("NOT (Updated > 'yesterday' AND UpdatedBy = 'anna')", &[3, 2, 1]),
        ("UpdatedBy = 'anna'", &[]),
    ] {
        assert_eq!(numbers(&desk, query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn pages_in_every_order_give_each_ticket_once_and_so_does_an_export() {
    let desk = filled().await;
    let catalog = desk.fresh_catalog().await.unwrap();
    let fields = [
        "id",
        "Subject",
        "Status",
        "Queue",
        "Lifecycle",
        "Priority",
        "Owner",
        "Creator",
        "LastUpdatedBy",
        "Created",
        "LastUpdated",
        "Started",
        "Due",
        "Resolved",
        "Told",
        "CF.{Severity}",
        "CF.{Tags}",
    ];
    for query in
        ["", "CF.Tags IS NOT NULL OR Queue = 'General'", "Content MATCHES 'fire'", "CF.Tags LIKE '%'"]
    {
        for (field, is_descending) in fields.iter().flat_map(|field| [(field, true), (field, false)]) {
            let order = [Sorted { field: (*field).to_owned(), is_descending }];
            let mut paged = Vec::new();
            let mut cursor: Option<String> = None;
            loop {
                let one = Search {
                    limit: 1,
                    cursor: cursor.as_deref(),
                    count: Count::None,
                    ..search(query, &order)
                };
                let found = tickets(&desk.pools.searches, &catalog, &one).await.unwrap();
                paged.extend(found.page.items.iter().map(|ticket| ticket.number));
                cursor = found.page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            let whole = tickets(&desk.pools.searches, &catalog, &search(query, &order)).await.unwrap();
            let whole: Vec<_> = whole.page.items.iter().map(|ticket| ticket.number).collect();
            assert_eq!(paged, whole, "{query} by {field}");
            let mut export =
                Export::open(&desk.pools.searches, &catalog, &search(query, &order)).await.unwrap();
            let mut exported = Vec::new();
            while let Some((tickets, _)) = export.next().await.unwrap() {
                exported.extend(tickets.iter().map(|ticket| ticket.number));
            }
            assert_eq!(exported, whole, "{query} by {field}");
        }
    }
}

/// Returns the queries in the code blocks of a page with this language tag, one per line.
fn queries_of<'a>(page: &'a str, fence: &str) -> Vec<&'a str> {
    let opening = format!("\n```{fence}\n");
    let blocks = page.split(opening.as_str()).skip(1).filter_map(|rest| rest.split("\n```").next());
    blocks.flat_map(str::lines).collect()
}

#[tokio::test]
async fn every_query_of_the_page_on_ticketsql_is_run() {
    const PAGE: &str = include_str!("../../../../../../docs/ticketsql.md");
    let desk = desk().await;
    for (name, more) in [("ann", Value::Null), ("carla", Value::Null)] {
        let user = json!({ "username": name, "email": more, "privileged": true });
        add::<UserDocument>(&desk, user).await.unwrap();
    }
    let fields = ["Severity", "Components", "Order number"];
    for name in fields {
        let field = json!({ "name": name, "field_type": "Freeform", "max_values": 0 });
        add::<CustomFieldDocument>(&desk, field).await.unwrap();
    }
    for name in ["Support", "Billing"] {
        add::<QueueDocument>(&desk, json!({ "name": name, "custom_fields": fields })).await.unwrap();
    }
    let (searches, conditions) = (queries_of(PAGE, "ticketsql"), queries_of(PAGE, "ticketsql condition"));
    assert!(searches.len() >= 30 && conditions.len() >= 5, "{} and {}", searches.len(), conditions.len());
    for query in searches {
        numbers(&desk, query).await;
    }
    for (at, query) in conditions.into_iter().enumerate() {
        let scrip = json!({ "name": format!("Scrip {at}"), "condition_type": "UserDefined", "condition_config": { "query": query } });
        add::<ScripDocument>(&desk, a_scrip(scrip)).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    }
}
