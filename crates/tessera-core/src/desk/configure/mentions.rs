//! Mentions: everything that a scrip names literally, to look it up when the scrip or the object changes.

pub(super) use crate::scrip::mention::{Mention, Thing};

use crate::plan::Catalog;
use crate::plan::documents::ScripDocument;
use crate::query::{Purpose, Read, reads};
use crate::scrip::action::ActionType;
use crate::scrip::condition::Condition;

/// The member of a scrip that holds its query.
pub(super) const QUERY: &str = "condition_config.query";

/// Returns everything that a scrip names. Templates are left out: their result is known only at run time. So are the names in
/// a query that cannot be resolved, because the scrip fails without them anyway.
pub(super) fn of(catalog: &Catalog, scrip: &ScripDocument) -> Vec<Mention> {
    let condition = Condition::parse(&scrip.condition_type, &scrip.condition_config).ok();
    let asked = condition.as_ref().and_then(|condition| condition.query.as_ref());
    let query = asked.and_then(|asked| asked.resolve(&catalog.query_fields(Purpose::Condition)).ok());
    let by_query = query.iter().flat_map(reads).map(of_query);
    let by_event = condition.iter().flat_map(|condition| condition.event.mentions());
    let action = ActionType::find(&scrip.action_type);
    let by_action = action.map(|action| action.mentions(&scrip.action_config)).unwrap_or_default();
    by_query.chain(by_event).chain(by_action).collect()
}

fn of_query(read: Read) -> Mention {
    let (thing, name) = match read {
        Read::Field(name) => (Thing::Field, name),
        Read::FieldOfQueue(name) => (Thing::FieldOfQueue, name),
        Read::Queue(name) => (Thing::Queue, name),
        Read::Lifecycle(name) => (Thing::Lifecycle, name),
        Read::Status(name) => (Thing::AnyStatus, name),
        Read::Owner(word) => (Thing::Owner, word),
        Read::Person(word) => (Thing::Person, word),
    };
    Mention { thing, name, place: QUERY.to_owned() }
}
