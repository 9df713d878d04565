//! Connectors: adding, renewing and revoking them, and the kinds that they announce.

use super::{Caller, Edit, Tessera, limit};
use crate::db::configuration;
use crate::db::{connectors, error};
use crate::desk::connectors::{new_token, not_bound, token_hash};
use crate::error::{Code, Error, Fault, Result};
use crate::models::connector::{KindRecord, Registered};
use crate::models::delivery::KindName;
use crate::models::json;
use crate::models::secret::Secret;
use crate::models::text::{line_fault, name_fault, quote};
use crate::models::{Connector, DeliveryKind, UserId};
use crate::scrip::State;
use crate::scrip::action::Effect;
use crate::scrip::kind::{SCHEMA_MAX, Schema};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The maximum number of connectors, without revoked ones.
pub const CONNECTORS_MAX: usize = 200;
/// The maximum number of kinds of a connector.
pub const KINDS_MAX: usize = 16;
/// The maximum length of the name of a connector's software, in bytes.
pub const SOFTWARE_MAX: usize = 100;

/// A connector to add.
#[derive(Debug, Clone, Default)]
pub struct NewConnector {
    /// The unique name.
    pub name: String,
    /// The kinds of delivery that it may lease.
    pub kinds: Vec<String>,
    /// The privileged user as whom it reads and changes tickets; `None` if it may do neither.
    pub user: Option<String>,
}

impl Tessera {
    /// Adds a connector and returns it with its token, which cannot be read again. From now on, scrips can use its kinds.
    ///
    /// # Errors
    /// `422 invalid`; `409 name_taken`, `limit_reached`; those of the database.
    pub async fn add_connector(&self, caller: &Caller, new: NewConnector) -> Result<(Connector, Secret)> {
        let mut change = Edit::begin(self, caller, false).await?;
        change.fault_if("name", name_fault(&new.name));
        let kinds: BTreeSet<DeliveryKind> = new.kinds.iter().filter_map(|word| change.kind(word)).collect();
        if kinds.is_empty() && new.user.is_none() {
            change.fault(
                "kinds",
                "is empty and no user is given, so the connector could do nothing; give at least one of them",
            );
        }
        if kinds.len() > KINDS_MAX {
            change.fault("kinds", format!("has {} kinds; at most {KINDS_MAX} are allowed", kinds.len()));
        }
        let user = new.user.as_deref().and_then(|word| change.agent(word));
        change.check()?;
        let count = connectors::count(&mut change.db).await?;
        limit("connectors", usize::try_from(count).unwrap_or(usize::MAX), CONNECTORS_MAX)?;
        if connectors::has(&mut change.db, &new.name).await? {
            let detail = format!(
                "A connector {} already exists. Revoke it first, or choose another name.",
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

    /// Replaces the token of a connector and returns the new one. The old token is invalid immediately.
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

    /// Revokes a connector, immediately and permanently. Its deliveries go to other connectors when their leases expire.
    ///
    /// # Errors
    /// `not_found`; those of the database.
    pub async fn revoke_connector(&self, _caller: &Caller, name: &str) -> Result<()> {
        // No name contains U+0000, and PostgreSQL rejects it in a parameter.
        let is_revoked = !name.contains('\0') && connectors::revoke(&self.pools.write, name).await?;
        if is_revoked { Ok(()) } else { Err(Error::not_found("connector", quote(name))) }
    }

    /// Lists the connectors that are not revoked, sorted by name.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn connectors(&self, _caller: &Caller) -> Result<Vec<Registered>> {
        connectors::list(&self.pools.read).await
    }

    /// Lists all kinds of delivery, including the built-in ones, sorted by name.
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

    /// Records that a connector delivers a kind, with payloads of this JSON Schema (empty for any payload). Deliveries that were held
    /// because no connector had served the kind are released. Returns the names of the scrips whose payload does not match the schema.
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
                "is empty; give the name and version of the connector, for example chat-connector 1.2",
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
            self.reload_configuration().await;
            self.wakeup.wake();
        }
        let DeliveryKind::Connector(name) = bound else { return Ok(Vec::new()) };
        let catalog = self.fresh_catalog().await?;
        let kind = catalog.kinds.get(&name).map(Arc::as_ref);
        let mut misfits = Vec::new();
        for scrip in catalog.scrips.iter() {
            if let (Effect::Connector(action), Some(kind)) = (&scrip.action.effect, kind)
                && scrip.state != State::Disabled
                && action.kind == kind.name
            {
                if !action.misfits(kind).is_empty() {
                    misfits.push(scrip.name.clone());
                }
                // Each check is bounded, but there may be many, and other calls must go on.
                tokio::task::yield_now().await;
            }
        }
        Ok(misfits)
    }
}

/// Compiles the schema of a kind; `None` if it is empty.
fn read_schema(kind: &DeliveryKind, text: &str) -> Result<Option<Schema>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    if !matches!(kind, DeliveryKind::Connector(_)) {
        return Err(format!("the payload of {kind} has a fixed format; leave the schema empty"));
    }
    if text.len() > SCHEMA_MAX {
        return Err(format!("has {} bytes; at most {SCHEMA_MAX} are allowed", text.len()));
    }
    let source = json::from_slice(text.as_bytes()).map_err(|error| format!("is not valid JSON: {error}"))?;
    Schema::compile(source).map(Some)
}

impl Edit<'_> {
    /// Returns the privileged user with this name, as whom a connector acts.
    fn agent(&mut self, word: &str) -> Option<UserId> {
        let found = self.catalog.agent(word).filter(|user| !user.disabled).map(|user| user.id);
        if found.is_none() {
            self.fault("user", format!("there is no enabled privileged user {}", quote(word)));
        }
        found
    }

    /// Parses a kind of a connector.
    fn kind(&mut self, word: &str) -> Option<DeliveryKind> {
        let kind = DeliveryKind::parse(word);
        if kind.is_none() {
            let message = KindName::try_from(word.to_owned()).err().unwrap_or_default();
            self.fault("kinds", message);
        }
        kind
    }
}
