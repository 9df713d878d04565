//! The default configuration of an empty database: tickets can be created immediately, and it is familiar to administrators of RT.

use super::Edit;
use crate::db::configuration::{self, users};
use crate::db::{catalog, error};
use crate::delivery::guard::Guard;
use crate::error::{Error, Result};
use crate::failpoint::Failpoint;
use crate::lifecycle::Definition;
use crate::models::template::ContentType;
use crate::models::user::{ADMIN_USER, SYSTEM_USER};
use crate::plan::Installation;
use crate::plan::documents::{
    DEFAULT_LIFECYCLE, LifecycleDocument, QueueDocument, ScripDocument, TemplateDocument, UserDocument,
};
use sqlx::PgPool;
use std::collections::BTreeMap;

/// The stock templates: each has the subject, an empty line, and the body. RT: `@Templates` in `initialdata`.
const TEMPLATES: [(&str, &str); 8] = [
    ("Blank", include_str!("stock/blank.txt")),
    ("Autoreply", include_str!("stock/autoreply.txt")),
    ("Transaction", include_str!("stock/transaction.txt")),
    ("Admin Correspondence", include_str!("stock/admin_correspondence.txt")),
    ("Correspondence", include_str!("stock/correspondence.txt")),
    ("Admin Comment", include_str!("stock/admin_comment.txt")),
    ("Status Change", include_str!("stock/status_change.txt")),
    ("Resolved", include_str!("stock/resolved.txt")),
];
/// The stock scrips. RT: `@Scrips` in `initialdata`.
const SCRIPS: &str = include_str!("stock/scrips.json");
/// The version of the default configuration.
const FIRST: i64 = 1;

/// Writes the default configuration, unless the database already has a configuration.
///
/// # Errors
/// Those of the database.
pub async fn seed(pool: &PgPool, installation: &Installation, guard: &Guard) -> Result<()> {
    let mut db = pool.begin().await.map_err(error)?;
    if configuration::lock(&mut db).await? >= FIRST {
        return Ok(());
    }
    for (id, user) in stock_users() {
        users::write(&mut db, id, &user, FIRST).await?;
    }
    let empty = catalog::read_within(&mut db, None, installation.clone()).await?;
    let mut change = Edit::new(db, empty, FIRST, guard, SYSTEM_USER);
    let lifecycle = LifecycleDocument {
        name: DEFAULT_LIFECYCLE.to_owned(),
        definition: Definition::stock(),
        disabled: false,
    };
    change.plant(&lifecycle, None).await?;
    change.plant(&general(), None).await?;
    for (name, text) in TEMPLATES {
        change.plant(&template(name, text), None).await?;
    }
    let scrips: Vec<ScripDocument> = serde_json::from_str(SCRIPS)
        .map_err(|source| Error::internal("The stock scrips are invalid.", source))?;
    for scrip in scrips {
        change.plant(&scrip, None).await?;
    }
    configuration::set_version(&mut change.db, FIRST).await?;
    Failpoint::SeedWritten.pass();
    change.db.commit().await.map_err(error)?;
    Failpoint::SeedCommitted.pass();
    Ok(())
}

fn stock_users() -> [(crate::models::UserId, UserDocument); 2] {
    let user = |username: &str, name: &str, privileged| UserDocument {
        username: username.to_owned(),
        email: None,
        name: Some(name.to_owned()),
        privileged,
        disabled: false,
    };
    [(SYSTEM_USER, user("tessera", "Tessera", false)), (ADMIN_USER, user("admin", "Administrator", true))]
}

fn general() -> QueueDocument {
    QueueDocument {
        name: "General".to_owned(),
        description: Some("Requests that do not belong to another queue".to_owned()),
        lifecycle: DEFAULT_LIFECYCLE.to_owned(),
        correspond_address: None,
        comment_address: None,
        cc: Vec::new(),
        admin_cc: Vec::new(),
        custom_fields: Vec::new(),
        disabled: false,
    }
}

fn template(name: &str, text: &str) -> TemplateDocument {
    let (subject, body) = text.split_once("\n\n").unwrap_or(("", text));
    TemplateDocument {
        name: name.to_owned(),
        queue: None,
        subject_template: subject.trim_start_matches("Subject:").trim().to_owned(),
        body_template: body.to_owned(),
        content_type: ContentType::Text,
        headers: BTreeMap::new(),
        disabled: false,
    }
}
