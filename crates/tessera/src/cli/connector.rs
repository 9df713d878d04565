//! `tessera connector`: who may deliver and bring things in by gRPC.

use std::sync::Arc;

use anyhow::{anyhow, bail};
use tessera_core::Error;
use tessera_core::db::Pools;
use tessera_core::delivery::guard::Guard;
use tessera_core::desk::Tessera;
use tessera_core::desk::configure::NewConnector;
use tessera_core::models::connector::Registered;
use time::OffsetDateTime;
use time::macros::format_description;

use super::must_be_current;
use crate::config::Config;
use crate::database::Database;

/// What is done with connectors.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Add a connector, and print its token, which is shown this once
    Add(Add),
    /// List the connectors
    List,
    /// Print a new token for a connector; the one that it had opens nothing any more
    Renew(Name),
    /// Revoke a connector's token, at once and for good
    Revoke(Name),
}

/// A connector to be added.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// What it is called
    name: String,
    /// What it may deliver: email, webhook, or a kind of your own, which scrips can name from now on; may be given again
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// The privileged user as whom it may read and change tickets; without it, it may not
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
}

/// A connector.
#[derive(Debug, clap::Args)]
pub struct Name {
    /// What it is called
    name: String,
}

/// Does it, while a server runs or none does.
///
/// # Errors
/// The database cannot be had, or what is asked for cannot be.
pub async fn run(config: &Config, command: &Command) -> anyhow::Result<()> {
    if !Database::is_made(config) {
        bail!(
            "there is no database in {} (data_dir) yet. Start `tessera serve` once, or set TESSERA_DATA_DIR as the server has it",
            config.data_dir.display()
        );
    }
    let database = Database::share(config).await?;
    let pools = Pools::new(database.options());
    let done = on(config, &pools, command).await;
    pools.close().await;
    database.close().await?;
    done
}

async fn on(config: &Config, pools: &Pools, command: &Command) -> anyhow::Result<()> {
    must_be_current(pools).await?;
    let guard = Arc::new(Guard::new(config.webhook_allow.clone()));
    let tessera = Tessera::open(pools.clone(), config.installation(), guard).await?;
    println!("{}", tell(&tessera, command).await?);
    Ok(())
}

/// Every fault of what was asked for, a line each.
fn sentences(error: Error) -> anyhow::Error {
    if error.faults().is_empty() {
        return error.into();
    }
    let faults: Vec<_> = error.faults().iter().map(ToString::to_string).collect();
    anyhow!("{}", faults.join("\n"))
}

/// What is to be printed.
async fn tell(tessera: &Tessera, command: &Command) -> anyhow::Result<String> {
    let caller = tessera.administrator()?;
    match command {
        Command::Add(Add { name, kinds, user }) => {
            let new = NewConnector { name: name.clone(), kinds: kinds.clone(), user: user.clone() };
            let added = tessera.add_connector(&caller, new).await;
            let (_, token) = added.map_err(sentences)?;
            Ok(token.expose().to_owned())
        }
        Command::List => Ok(table(&tessera.connectors(&caller).await?)),
        Command::Renew(Name { name }) => {
            Ok(tessera.renew_connector(&caller, name).await.map_err(sentences)?.expose().to_owned())
        }
        Command::Revoke(Name { name }) => {
            tessera.revoke_connector(&caller, name).await.map_err(sentences)?;
            Ok(format!("revoked: {name}. What it had leased goes to others within half a minute."))
        }
    }
}

/// A line for each connector.
fn table(connectors: &[Registered]) -> String {
    if connectors.is_empty() {
        return "There are no connectors. `tessera connector add NAME --kind KIND` adds one.".to_owned();
    }
    let heads = ["NAME", "KINDS", "AS", "SOFTWARE", "LAST SEEN"].map(str::to_owned);
    let rows = connectors.iter().map(|one| {
        let kinds: Vec<_> = one.connector.kinds.iter().map(ToString::to_string).collect();
        let or_dash = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or("-".to_owned());
        [
            one.connector.name.clone(),
            or_dash(Some(kinds.join(","))),
            or_dash(one.username.clone()),
            or_dash(one.software.clone()),
            one.last_seen_at.map_or("never".to_owned(), moment),
        ]
    });
    let rows: Vec<[String; 5]> = std::iter::once(heads).chain(rows).collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let line = |row: &[String; 5]| {
        let cells = row.iter().enumerate();
        let cells = cells.map(|(column, cell)| format!("{cell:<width$}", width = width(column).unwrap_or(0)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn moment(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    at.format(format).unwrap_or_else(|_| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tessera_core::models::{Connector, ConnectorId, DeliveryKind};
    use time::macros::datetime;
    use uuid::Uuid;

    #[test]
    fn connectors_stand_in_columns_with_a_dash_for_what_there_is_not() {
        let of = |name: &str, kinds: &[&str]| Registered {
            connector: Connector {
                id: ConnectorId(Uuid::nil()),
                name: name.to_owned(),
                kinds: kinds.iter().filter_map(|kind| DeliveryKind::parse(kind)).collect::<BTreeSet<_>>(),
                user: None,
            },
            username: None,
            software: None,
            created_at: datetime!(2026-11-25 8:00 UTC),
            last_seen_at: None,
        };
        let seen = Registered {
            username: Some("admin".into()),
            software: Some("chat 1".into()),
            last_seen_at: Some(datetime!(2026-11-25 8:01:02 UTC)),
            ..of("chatter", &["email", "chat"])
        };
        let expected = "NAME     KINDS       AS     SOFTWARE  LAST SEEN\n\
                        chatter  email,chat  admin  chat 1    2026-11-25 08:01:02 UTC\n\
                        in       -           -      -         never";
        assert_eq!(table(&[seen, of("in", &[])]), expected);
        assert!(table(&[]).contains("connector add"));
    }
}
