//! What scrips know of connectors: the kinds that are announced, and those that a token is bound to.

use crate::convert::timestamp;
use crate::status::status;
use crate::v1::scrips_service_server::ScripsService;
use crate::{Desk, connector, v1};
use std::collections::BTreeMap;
use tessera_core::error::Result;
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
        let known = self.tessera.kinds().await?;
        let mut known: BTreeMap<_, _> =
            known.into_iter().map(|record| (record.name.clone(), record)).collect();
        let kind = |kind: &tessera_core::models::DeliveryKind| {
            let record = known.remove(kind.as_str());
            v1::Kind {
                name: kind.to_string(),
                schema: record
                    .as_ref()
                    .and_then(|record| record.schema.as_ref())
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                announced_at: record.as_ref().and_then(|record| record.announced_at).map(timestamp),
                unfinished: record.as_ref().map_or(0, |record| record.unfinished),
                scrips: record.map(|record| record.scrips).unwrap_or_default(),
            }
        };
        let mut kinds: Vec<_> = connector.kinds.iter().map(kind).collect();
        kinds.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(v1::ListKindsResponse { kinds })
    }
}
