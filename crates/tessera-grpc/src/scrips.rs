//! What scrips know of connectors: the kinds that are announced, and those that a token is bound to.

use crate::convert::timestamp;
use crate::status::status;
use crate::v1::scrips_service_server::ScripsService;
use crate::{Desk, connector, v1};
use tessera_core::db::gauges;
use tessera_core::error::Result;
use tessera_core::models::DeliveryKind;
use tessera_core::plan::Catalog;
use tessera_core::scrip::State;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl ScripsService for Desk {
    async fn announce(
        &self,
        request: Request<v1::AnnounceRequest>,
    ) -> Result<Response<v1::AnnounceResponse>, Status> {
        self.take_announcement(request).await.map(Response::new).map_err(status)
    }

    async fn list_kinds(
        &self,
        request: Request<v1::ListKindsRequest>,
    ) -> Result<Response<v1::ListKindsResponse>, Status> {
        self.list(request).await.map(Response::new).map_err(status)
    }
}

impl Desk {
    async fn take_announcement(&self, request: Request<v1::AnnounceRequest>) -> Result<v1::AnnounceResponse> {
        let connector = connector(&request)?;
        let v1::AnnounceRequest { kind, schema, software } = request.get_ref();
        let misfits = self.tessera.announce(&connector, kind, schema, software).await?;
        Ok(v1::AnnounceResponse { misfits })
    }

    async fn list(&self, request: Request<v1::ListKindsRequest>) -> Result<v1::ListKindsResponse> {
        let connector = connector(&request)?;
        let kinds: Vec<DeliveryKind> = connector.kinds.into_iter().collect();
        let catalog = self.tessera.fresh_catalog().await?;
        let records = self.tessera.kinds().await?;
        let queue = gauges::queue(&self.tessera.pools().read, &kinds).await?;
        let mut kinds: Vec<_> = kinds
            .iter()
            .map(|kind| {
                let record = records.iter().find(|record| record.name == kind.as_str());
                let schema = record.and_then(|record| record.schema.as_ref());
                let unfinished = queue.deliveries.iter().filter(|(_, one, _)| one == kind);
                v1::Kind {
                    name: kind.to_string(),
                    schema: schema.map(ToString::to_string).unwrap_or_default(),
                    announced_at: record.and_then(|record| record.announced_at).map(timestamp),
                    scrips: scrips_of(&catalog, kind),
                    unfinished: unfinished.map(|(_, _, count)| *count as i64).sum(),
                }
            })
            .collect();
        kinds.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(v1::ListKindsResponse { kinds })
    }
}

/// The names of the scrips that make deliveries of a kind.
fn scrips_of(catalog: &Catalog, kind: &DeliveryKind) -> Vec<String> {
    let live = catalog.scrips.iter().filter(|scrip| scrip.state == State::Enabled);
    let makers = live.filter(|scrip| scrip.action.delivers().as_ref() == Some(kind));
    makers.map(|scrip| scrip.name.clone()).collect()
}
