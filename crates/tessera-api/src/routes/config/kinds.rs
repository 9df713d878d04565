//! List, add, show and change, for each kind of object; and the fields of a queue.

use crate::app::App;
use crate::error::{ProblemDocument, Result};
use crate::extract::{Body, Name, Params, limit};
use crate::schema;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tessera_core::desk::configure::{Document, Saved, Wanted};
use tessera_core::models::page::Page;
use tessera_core::plan::documents::{
    self, CustomFieldDocument, LifecycleDocument, QueueDocument, ScripDocument, Stored, TemplateDocument,
    UserDocument,
};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Whether a change is made although something names what it takes away.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Force {
    /// `true` lets a change through that scrips or lifecycles stand against; tickets are never left stranded.
    #[serde(default)]
    pub force: bool,
}

/// Which page of which objects.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListParams {
    /// Only those that are disabled, or only those that are not.
    disabled: Option<bool>,
    /// Only those with this in their name, without case.
    name: Option<String>,
    /// Items per page; 50 when not given.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The four routes of a kind.
macro_rules! kind {
    ($module:ident, $document:ident, $what:literal, $path:tt, $one:tt, $list:tt, $add:tt, $show:tt, $change:tt) => {
        mod $module {
            use super::*;

            schema::body!(Sent, concat!($what, "Input"), schema::sent::<$document>());
            schema::body!(Patch, concat!($what, "Patch"), schema::patch::<$document>());
            schema::body!(Answered, $what, schema::answered::<$document>());
            schema::body!(AnsweredPage, concat!($what, "Page"), schema::page($what));

            #[utoipa::path(get, path = $path, operation_id = $list, tag = "configuration", params(ListParams), responses(
                (status = 200, description = "A page, in the order in which they were made", body = AnsweredPage),
            ))]
            async fn list(
                State(app): State<App>,
                Params(params): Params<ListParams>,
            ) -> Result<Json<Page<Stored<$document>>>> {
                list_of(&app, params).await
            }

            #[utoipa::path(post, path = $path, operation_id = $add, tag = "configuration", request_body = Sent, responses(
                (status = 201, description = "It is there", body = Answered),
                (status = 409, description = "The name is taken, or a limit is reached", body = ProblemDocument),
                (status = 422, description = "Every fault, with its field", body = ProblemDocument),
            ))]
            async fn add(
                State(app): State<App>,
                body: Body<Map<String, Value>>,
            ) -> Result<(StatusCode, Json<Saved<$document>>)> {
                add_one(&app, body.value).await
            }

            #[utoipa::path(get, path = $one, operation_id = $show, tag = "configuration", responses(
                (status = 200, description = "It", body = Answered),
                (status = 404, description = "There is none of this name or id", body = ProblemDocument),
            ), params(("id" = String, Path, description = "Name or id")))]
            async fn show(State(app): State<App>, Name(word): Name) -> Result<Json<Stored<$document>>> {
                Ok(Json(app.tessera.object(&word).await?))
            }

            #[utoipa::path(patch, path = $one, operation_id = $change, tag = "configuration", request_body = Patch, responses(
                (status = 200, description = "It, as it is now", body = Answered),
                (status = 404, description = "There is none of this name or id", body = ProblemDocument),
                (status = 409, description = "in_use: something names what this takes away", body = ProblemDocument),
                (status = 422, description = "Every fault, with its field", body = ProblemDocument),
            ), params(("id" = String, Path, description = "Name or id"), Force))]
            async fn change(
                State(app): State<App>,
                Name(word): Name,
                Params(Force { force }): Params<Force>,
                body: Body<Map<String, Value>>,
            ) -> Result<Json<Saved<$document>>> {
                change_one(&app, &word, body.value, force).await
            }

            pub(super) fn routes() -> OpenApiRouter<App> {
                OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(show, change))
            }
        }
    };
}

kind!(
    queues,
    QueueDocument,
    "Queue",
    "/api/queues",
    "/api/queues/{id}",
    "listQueues",
    "addQueue",
    "getQueue",
    "changeQueue"
);
kind!(
    scrips,
    ScripDocument,
    "Scrip",
    "/api/scrips",
    "/api/scrips/{id}",
    "listScrips",
    "addScrip",
    "getScrip",
    "changeScrip"
);
kind!(
    templates,
    TemplateDocument,
    "Template",
    "/api/templates",
    "/api/templates/{id}",
    "listTemplates",
    "addTemplate",
    "getTemplate",
    "changeTemplate"
);
kind!(
    custom_fields,
    CustomFieldDocument,
    "CustomField",
    "/api/custom-fields",
    "/api/custom-fields/{id}",
    "listCustomFields",
    "addCustomField",
    "getCustomField",
    "changeCustomField"
);
kind!(
    lifecycles,
    LifecycleDocument,
    "Lifecycle",
    "/api/lifecycles",
    "/api/lifecycles/{id}",
    "listLifecycles",
    "addLifecycle",
    "getLifecycle",
    "changeLifecycle"
);
kind!(
    users,
    UserDocument,
    "User",
    "/api/users",
    "/api/users/{id}",
    "listUsers",
    "addUser",
    "getUser",
    "changeUser"
);

pub(super) fn routes() -> OpenApiRouter<App> {
    queues::routes()
        .merge(scrips::routes())
        .merge(templates::routes())
        .merge(custom_fields::routes())
        .merge(lifecycles::routes())
        .merge(users::routes())
        .routes(routes!(set_queue_fields))
}

async fn list_of<D: Document>(app: &App, params: ListParams) -> Result<Json<Page<Stored<D>>>> {
    let ListParams { disabled, name, limit: count, cursor } = params;
    let wanted = Wanted { disabled, name };
    Ok(Json(app.tessera.objects(&wanted, cursor.as_deref(), limit(count)?).await?))
}

async fn add_one<D: Document>(app: &App, body: Map<String, Value>) -> Result<(StatusCode, Json<Saved<D>>)> {
    let caller = app.tessera.administrator()?;
    Ok((StatusCode::CREATED, Json(app.tessera.add(&caller, documents::read(body)?).await?)))
}

async fn change_one<D: Document>(
    app: &App,
    word: &str,
    patch: Map<String, Value>,
    force: bool,
) -> Result<Json<Saved<D>>> {
    let caller = app.tessera.administrator()?;
    Ok(Json(app.tessera.change(&caller, word, patch, force).await?))
}

/// The fields of a queue.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct QueueFields {
    /// Names or ids, in the order in which tickets show them.
    custom_fields: Vec<String>,
}

#[utoipa::path(put, path = "/api/queues/{id}/custom-fields", operation_id = "setQueueCustomFields", tag = "configuration",
    request_body = QueueFields, params(("id" = String, Path, description = "Name or id")), responses(
    (status = 200, description = "The queue, as it is now", body = queues::Answered),
    (status = 404, description = "There is no such queue", body = ProblemDocument),
    (status = 422, description = "Every fault, with its field", body = ProblemDocument),
))]
async fn set_queue_fields(
    State(app): State<App>,
    Name(word): Name,
    body: Body<QueueFields>,
) -> Result<Json<Saved<QueueDocument>>> {
    let patch = Map::from_iter([("custom_fields".to_owned(), json!(body.value.custom_fields))]);
    change_one(&app, &word, patch, false).await
}
