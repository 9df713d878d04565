//! A table of queries and the objects that they name.

use super::*;
use crate::plan::tests::Desk;
use crate::query::{Dialect, Purpose, parse, resolve};

#[test]
fn a_query_reads_what_it_names_and_neither_ids_nor_patterns_nor_placeholders() {
    let (field, queue, status) = (
        |name: &str| Read::Field(name.to_owned()),
        |name: &str| Read::Queue(name.to_owned()),
        |name: &str| Read::Status(name.to_owned()),
    );
    let (owner, person) =
        (|name: &str| Read::Owner(name.to_owned()), |name: &str| Read::Person(name.to_owned()));
    let id = crate::plan::tests::id(11);
    let table = [
        ("Subject LIKE 'x' AND Priority > 5".to_owned(), vec![]),
        ("cf.severity = 'high' OR CF.Severity IS NULL".to_owned(), vec![field("Severity")]),
        (
            "CF.support.{Severity} != 'x'".to_owned(),
            vec![field("Severity"), Read::FieldOfQueue("CF.Support.{Severity}".to_owned()), queue("Support")],
        ),
        ("CF.Components CHANGED".to_owned(), vec![field("Components")]),
        ("Transaction.Field = 'Severity'".to_owned(), vec![field("Severity")]),
        ("Transaction.NewValue = 'Severity'".to_owned(), vec![]),
        ("Queue IN (Support, 'billing')".to_owned(), vec![queue("Support"), queue("billing")]),
        ("Queue CHANGED FROM Support".to_owned(), vec![queue("Support")]),
        ("Queue LIKE 'sup'".to_owned(), vec![]),
        ("NOT Lifecycle = default".to_owned(), vec![Read::Lifecycle("default".to_owned())]),
        ("Status = open OR Status IN (new, __Inactive__)".to_owned(), vec![status("new"), status("open")]),
        ("Status CHANGED FROM new TO __Active__".to_owned(), vec![status("new")]),
        ("Owner = ann OR Owner = Nobody".to_owned(), vec![owner("ann")]),
        ("Owner CHANGED TO bob".to_owned(), vec![owner("bob")]),
        (format!("Owner = '{id}' OR Owner = __CurrentUser__ OR Owner = Creator"), vec![]),
        ("Owner LIKE 'ann'".to_owned(), vec![]),
        ("Creator = eve AND Actor.Name = joe".to_owned(), vec![person("eve"), person("joe")]),
        ("Requestor = 'a@b.example'".to_owned(), vec![person("a@b.example")]),
        ("Watcher CHANGED FROM sue".to_owned(), vec![person("sue")]),
    ];
    let catalog = Desk::new().open();
    for (text, expected) in table {
        let parsed = parse(&text, Dialect::Tessera).unwrap();
        let query = resolve(&parsed.query, &catalog.query_fields(Purpose::Condition)).unwrap();
        assert_eq!(reads(&query), expected, "{text}");
    }
}
