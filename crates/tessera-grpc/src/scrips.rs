//! Kinds of deliveries: announced by connectors, and listed for the kinds that a connector is bound to.

use crate::convert::timestamp;
use crate::status::status;
use crate::v1::scrips_service_server::ScripsService;
use crate::{Services, connector, v1};
use tessera_core::error::Result;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl ScripsService for Services {
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

impl Services {
    async fn take_announcement(&self, request: Request<v1::AnnounceRequest>) -> Result<v1::AnnounceResponse> {
        let connector = connector(&request)?;
        let v1::AnnounceRequest { kind, schema, software } = request.get_ref();
        let misfits = self.tessera.announce(&connector, kind, schema, software).await?;
        Ok(v1::AnnounceResponse { misfits })
    }

    async fn list(&self, request: Request<v1::ListKindsRequest>) -> Result<v1::ListKindsResponse> {
        let connector = connector(&request)?;
        let records = self.tessera.kinds_of(&connector).await?;
        let kinds = records.into_iter().map(|record| v1::Kind {
            schema: record.schema.map(|schema| schema.to_string()).unwrap_or_default(),
            announced_at: record.announced_at.map(timestamp),
            scrips: record.scrips,
            unfinished: record.unfinished,
            name: record.name,
        });
        Ok(v1::ListKindsResponse { kinds: kinds.collect() })
    }
}
