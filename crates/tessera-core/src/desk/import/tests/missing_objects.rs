//! Objects of the configuration that an import lacks: which are created, and which cannot be.

use super::*;

#[tokio::test]
async fn what_is_missing_is_made_as_the_api_would_one_version_a_batch() {
    let desk = desk().await;
    let lines = [
        line(
            json!({"queue": "Old", "owner": "Zoe <zoe@example.net>", "custom_fields": {"Colour": "red", "Tags": ["a", "b"]}}),
        ),
        line(json!({"owner": "zoe@example.net", "custom_fields": {"colour": "blue", "Empty": null}})),
        line(json!({"queue": "old", "owner": "eve@example.net", "custom_fields": {"TAGS": "c"}})),
        line(json!({"creator": "zoe"})),
    ];
    let tally = imported(&desk, MISSING, &lines).await;
    // Old; Colour, Tags, Empty; the fields of two queues; Zoe. Then eve, whom the previous batch created.
    assert_eq!((tally.imported, tally.configured, tally.users), (4, 8, 1));
    assert_eq!(count(&desk, "SELECT version FROM config_version").await, 3);
    assert_clean(&desk).await;
    let catalog = desk.fresh_catalog().await.unwrap();
    let queue = catalog.queues.find("Old").unwrap();
    let fields: Vec<_> = queue.custom_fields.iter().map(|id| catalog.fields.get(*id).unwrap()).collect();
    assert_eq!(
        fields.iter().map(|field| (field.name.as_str(), field.max_values)).collect::<Vec<_>>(),
        [("Colour", 1), ("Tags", 0)]
    );
    assert_eq!(catalog.lifecycle_of(queue.id).unwrap().name(), "default");
    assert_eq!(catalog.queues.find("General").unwrap().custom_fields.len(), 2);
    assert!(catalog.agent("zoe").is_some() && catalog.agent("eve@example.net").is_some());
    assert_eq!(count(&desk, "SELECT count(*) FROM tickets WHERE owner_id IS NOT NULL").await, 3);

    let again = imported(&desk, MISSING, &lines).await;
    assert_eq!((again.skipped, again.configured), (4, 0));
}

#[tokio::test]
async fn what_cannot_be_made_is_told_of_every_line_that_needs_it_and_of_no_other() {
    let desk = desk().await;
    let lines = [
        line(json!({"custom_fields": {"a{b}": "x", "Good": "y"}})),
        line(json!({"queue": "Ol\u{200b}d"})),
        line(json!({"custom_fields": {"Good": "y"}, "owner": "tessera"})),
        line(json!({"custom_fields": {"Good": "y"}})),
    ];
    let (tally, told) = import(&desk, MISSING, &lines).await;
    assert_eq!((tally.imported, tally.bad), (1, 3));
    assert_eq!(
        told,
        [
            "1: custom_fields.a{b}: could not be created: name: contains a brace, which would end the field's name in queries",
            "2: queue: could not be created: name: contains U+200B, which cannot be seen; remove it",
            "3: owner: tessera cannot own tickets: only privileged users can. Make this user privileged, or use --create-missing",
        ]
    );
    assert_clean(&desk).await;
}

#[tokio::test]
async fn a_field_that_was_made_takes_several_values_as_soon_as_a_line_has_them() {
    let desk = desk().await;
    let parts = |parts: Value| line(json!({"custom_fields": {"Parts": parts}}));
    let lines =
        [parts(json!("lid")), parts(json!("lid")), parts(json!(["lid"])), parts(json!(["lid", "gasket"]))];
    let tally = imported(&desk, MISSING, &lines).await;
    // The field, its attachment, and the change to several values.
    assert_eq!((tally.imported, tally.configured), (4, 3));
    assert_clean(&desk).await;
    // A field that the import did not create is not changed, and the line is reported.
    let (_, told) = import(&desk, MISSING, &[line(json!({"custom_fields": {"Other": "x"}}))]).await;
    assert_eq!(told, [""; 0]);
    let (_, told) = import(&desk, MISSING, &[line(json!({"custom_fields": {"Other": ["x", "y"]}}))]).await;
    assert!(told[0].ends_with("to allow more, set its max_values to 0"), "{told:?}");
}

#[tokio::test]
async fn what_a_bad_line_lacks_is_not_made() {
    let desk = desk().await;
    let bad = json!({"queue": "Suport", "status": "bogus", "owner": "eve@example.net", "custom_fields": {"Serverity": "x"}});
    let before = rows_there(&desk).await;
    let (tally, told) = import(&desk, MISSING, &[line(bad.clone())]).await;
    assert_eq!((tally.bad, tally.configured), (1, 0));
    assert!(told[0].starts_with("1: status: \"bogus\" is not a status"), "{told:?}");
    assert_eq!(rows_there(&desk).await, before);
    let good = line(
        json!({"queue": "Old", "owner": "Zoe <zoe@example.net>", "custom_fields": {"a{b}": null, "Colour": "x"}}),
    );
    let (_, told) = import(&desk, MISSING, &[line(bad), good]).await;
    assert!(told[1].starts_with("2: custom_fields.a{b}: could not be created: "), "{told:?}");
    assert_eq!(rows_there(&desk).await, before, "nor what another part of it lacks");
    let good = line(json!({"queue": "Old", "owner": "Zoe <zoe@example.net>"}));
    let worse = line(
        json!({"queue": "Old", "owner": "Zoe <zoe@example.net>", "custom_fields": {"Colour": "x"}, "status": "bogus"}),
    );
    let (tally, _) = import(&desk, MISSING, &[worse, good]).await;
    assert_eq!((tally.imported, tally.bad, tally.configured), (1, 1, 2));
    assert_clean(&desk).await;
    let catalog = desk.fresh_catalog().await.unwrap();
    assert!(catalog.queues.find("Old").is_some() && catalog.fields.find("Colour").is_none());
    assert!(catalog.agent("zoe").is_some() && catalog.agent("eve@example.net").is_none());
}
