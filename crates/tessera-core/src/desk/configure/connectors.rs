//! Connectors: added and revoked by people, and the kinds that they announce.

use super::{Caller, Change, Tessera, limit};
use crate::db::configuration;
use crate::db::{connectors, error};
use crate::desk::connectors::{new_token, not_bound, token_hash};
use crate::error::{Code, Error, Fault, Result};
use crate::models::connector::{KindRecord, Registered};
use crate::models::delivery::KindName;
use crate::models::secret::Secret;
use crate::models::text::{line_fault, name_fault, quote};
use crate::models::{Connector, DeliveryKind, UserId};
use crate::scrip::action::Effect;
use crate::scrip::kind::{SCHEMA_MAX, Schema};
use crate::scrip::{Scrip, State};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most connectors of a desk that are not revoked.
pub const CONNECTORS_MAX: usize = 200;
/// The most kinds of one connector.
pub const KINDS_MAX: usize = 16;
/// The longest name of a connector's software, in characters.
pub const SOFTWARE_MAX: usize = 100;

/// A connector to be added.
#[derive(Debug, Clone, Default)]
pub struct NewConnector {
    /// What people call it.
    pub name: String,
    /// What it may deliver.
    pub kinds: Vec<String>,
    /// The privileged user as whom it reads and changes tickets; `None` = it may not.
    pub user: Option<String>,
}

impl Tessera {
    /// Adds a connector; answers its token, which is shown this once. Its kinds may be named by scrips from now on.
    ///
    /// # Errors
    /// `422 invalid`; `409 name_taken`, `limit_reached`; those of the database.
    pub async fn add_connector(&self, caller: &Caller, new: NewConnector) -> Result<(Connector, Secret)> {
        let mut change = Change::begin(self, caller, false).await?;
        change.fault_if("name", name_fault(&new.name));
        let kinds: BTreeSet<DeliveryKind> = new.kinds.iter().filter_map(|word| change.kind(word)).collect();
        if kinds.is_empty() && new.user.is_none() {
            change.fault("kinds", "is empty, and no user is given: the connector could do nothing");
        }
        if kinds.len() > KINDS_MAX {
            change.fault("kinds", format!("are more than {KINDS_MAX}"));
        }
        let user = new.user.as_deref().and_then(|word| change.agent(word));
        change.check()?;
        let count = connectors::count(&mut change.db).await?;
        limit("connectors", usize::try_from(count).unwrap_or(usize::MAX), CONNECTORS_MAX)?;
        if connectors::has(&mut change.db, &new.name).await? {
            let detail = format!(
                "There is a connector {} already. Revoke it first, or take another name.",
                quote(&new.name)
            );
            return Err(Error::new(Code::NameTaken, detail));
        }
        let (connector, token) =
            (Connector { id: change.ids.draw(), name: new.name, kinds, user }, new_token()?);
        connectors::insert(&mut change.db, &connector, &token_hash(token.expose())).await?;
        let named = connector.kinds.iter().filter(|kind| matches!(kind, DeliveryKind::Connector(_)));
        let named: Vec<String> = named.map(ToString::to_string).collect();
        let is_new = connectors::add_kinds(&mut change.db, &named).await?;
        change.close(self, is_new).await?;
        Ok((connector, token))
    }

    /// Gives a connector a new token in the place of the one that it has, which opens nothing any more.
    ///
    /// # Errors
    /// `not_found`; those of the database.
    pub async fn renew_connector(&self, _caller: &Caller, name: &str) -> Result<Secret> {
        let token = new_token()?;
        match connectors::set_token(&self.pools.write, name, &token_hash(token.expose())).await? {
            true => Ok(token),
            false => Err(Error::not_found("connector", quote(name))),
        }
    }

    /// Revokes a connector, at once and for good. What it had leased goes to others when the leases run out.
    ///
    /// # Errors
    /// `not_found`; those of the database.
    pub async fn revoke_connector(&self, _caller: &Caller, name: &str) -> Result<()> {
        // A name cannot hold it, and a query cannot ask for it.
        let is_revoked = !name.contains('\0') && connectors::revoke(&self.pools.write, name).await?;
        if is_revoked { Ok(()) } else { Err(Error::not_found("connector", quote(name))) }
    }

    /// Every connector that is not revoked, in order of name.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn connectors(&self, _caller: &Caller) -> Result<Vec<Registered>> {
        connectors::list(&self.pools.read).await
    }

    /// Every kind of delivery that there is, in order of name: also those that the binary can make.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn kinds(&self, _caller: &Caller) -> Result<Vec<KindRecord>> {
        let catalog = self.fresh_catalog().await?;
        connectors::kinds(&self.pools.read, &catalog).await
    }

    /// Lists the kinds that a connector is bound to, sorted by name.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn kinds_of(&self, connector: &Connector) -> Result<Vec<KindRecord>> {
        let catalog = self.fresh_catalog().await?;
        let mut kinds = connectors::kinds(&self.pools.read, &catalog).await?;
        kinds.retain(|record| connector.kinds.iter().any(|kind| kind.as_str() == record.name));
        Ok(kinds)
    }

    /// Takes a connector's word that it delivers a kind, with payloads of this schema (JSON; empty = any). What was held because
    /// nobody delivers it may go.
    ///
    /// # Errors
    /// `403 forbidden`; `422 invalid`; those of the database.
    pub async fn announce(
        &self,
        connector: &Connector,
        kind: &str,
        schema: &str,
        software: &str,
    ) -> Result<Vec<String>> {
        let bound = DeliveryKind::parse(kind).filter(|kind| connector.kinds.contains(kind));
        let bound = bound.ok_or_else(|| not_bound(connector, kind))?;
        let mut faults: Vec<Fault> = Vec::new();
        faults.extend(line_fault(software, SOFTWARE_MAX).map(|message| Fault::new("software", message)));
        if software.is_empty() {
            faults.push(Fault::new(
                "software",
                "is empty; say what the connector is, as in chat-connector 1.2",
            ));
        }
        let schema = read_schema(&bound, schema);
        faults.extend(schema.as_ref().err().map(|message| Fault::new("schema", message)));
        if !faults.is_empty() {
            return Err(Error::invalid(faults));
        }
        let schema = schema.unwrap_or_default();
        let mut db = self.pools.write.begin().await.map_err(error)?;
        let version = configuration::lock(&mut db).await? + 1;
        let has_changed =
            connectors::announce(&mut db, connector.id, kind, schema.as_ref().map(Schema::source), software)
                .await?;
        if has_changed {
            configuration::set_version(&mut db, version).await?;
        }
        db.commit().await.map_err(error)?;
        if has_changed {
            self.read_again().await;
            self.wakeup.wake();
        }
        let DeliveryKind::Connector(name) = bound else { return Ok(Vec::new()) };
        let catalog = self.fresh_catalog().await?;
        let kind = catalog.kinds.get(&name).map(Arc::as_ref);
        let is_misfit = |scrip: &&Arc<Scrip>| match (&scrip.action.effect, kind) {
            (Effect::Connector(action), Some(kind)) => {
                scrip.state != State::Disabled && action.kind == kind.name && !action.misfits(kind).is_empty()
            }
            _ => false,
        };
        Ok(catalog.scrips.iter().filter(is_misfit).map(|scrip| scrip.name.clone()).collect())
    }
}

/// The schema of a kind.
fn read_schema(kind: &DeliveryKind, text: &str) -> Result<Option<Schema>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    if !matches!(kind, DeliveryKind::Connector(_)) {
        return Err(format!("{kind} has a form of its own, and takes no schema"));
    }
    if text.len() > SCHEMA_MAX {
        return Err(format!("has {} bytes, and {SCHEMA_MAX} at most are read", text.len()));
    }
    let source = serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?;
    Schema::compile(source).map(Some)
}

impl Change<'_> {
    /// The privileged user of a name, as whom a connector comes.
    fn agent(&mut self, word: &str) -> Option<UserId> {
        let found = self.catalog.agent(word).filter(|user| !user.disabled).map(|user| user.id);
        if found.is_none() {
            self.fault("user", format!("there is no privileged user {}", quote(word)));
        }
        found
    }

    /// The kind of a word, for a connector.
    fn kind(&mut self, word: &str) -> Option<DeliveryKind> {
        let kind = DeliveryKind::parse(word);
        if kind.is_none() {
            let message = KindName::try_from(word.to_owned()).err().unwrap_or_default();
            self.fault("kinds", message);
        }
        kind
    }
}
