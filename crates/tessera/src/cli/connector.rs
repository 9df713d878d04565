//! `tessera connector`: manages the programs that deliver and create tickets over gRPC.

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

/// The subcommands of `tessera connector`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Add a connector and print its token, which is shown only once
    Add(Add),
    /// List the connectors
    List,
    /// Print a new token for a connector; its old token becomes invalid
    Renew(Name),
    /// Revoke a connector's token immediately and permanently
    Revoke(Name),
}

/// The arguments of `tessera connector add`.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// Name of the connector
    name: String,
    /// Kind of delivery that it serves: email, webhook, or your own, which scrips can then use; can be repeated
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Privileged user as whom it reads and changes tickets; without this, it cannot
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
}

/// The connector that a subcommand acts on.
#[derive(Debug, clap::Args)]
pub struct Name {
    /// Name of the connector
    name: String,
}

/// Runs the subcommand, whether or not a server is running.
///
/// # Errors
/// The database cannot be opened, or the operation is rejected.
pub async fn run(config: &Config, command: &Command) -> anyhow::Result<()> {
    if !Database::exists(config) {
        bail!(
            "there is no database in {} (data_dir) yet. Run `tessera serve` once, or set TESSERA_DATA_DIR to the server's directory",
            config.data_dir.display()
        );
    }
    let database = Database::share(config).await?;
    let pools = Pools::new(&database.options(), config.pool_sizes);
    let done = run_on(config, &pools, command).await;
    pools.close().await;
    database.close().await?;
    done
}

async fn run_on(config: &Config, pools: &Pools, command: &Command) -> anyhow::Result<()> {
    must_be_current(pools).await?;
    let guard = Arc::new(Guard::new(config.webhook_allow.clone()));
    let tessera = Tessera::open(pools.clone(), config.installation(), guard).await?;
    println!("{}", execute(&tessera, command).await?);
    Ok(())
}

/// Puts each fault of an error on its own line.
fn sentences(error: Error) -> anyhow::Error {
    if error.faults().is_empty() {
        return error.into();
    }
    let faults: Vec<_> = error.faults().iter().map(ToString::to_string).collect();
    anyhow!("{}", faults.join("\n"))
}

/// Executes the subcommand and returns its output.
async fn execute(tessera: &Tessera, command: &Command) -> anyhow::Result<String> {
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
            Ok(format!("Revoked {name}. Other connectors take over its leased deliveries within 30 s."))
        }
    }
}

/// Formats connectors as a table, one per line.
fn table(connectors: &[Registered]) -> String {
    if connectors.is_empty() {
        return "There are no connectors. Add one with `tessera connector add NAME --kind KIND`.".to_owned();
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
    fn connectors_are_listed_in_columns_with_a_dash_for_missing_values() {
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
