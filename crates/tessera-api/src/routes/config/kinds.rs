//! List, add, read and change, for each type of object; and the custom fields of a queue.

use crate::app::App;
use crate::error::{ProblemDocument, Result};
use crate::extract::{Authenticated, Body, Name, Params, limit};
use crate::schema;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tessera_core::desk::Caller;
use tessera_core::desk::configure::{Document, Saved, Wanted};
use tessera_core::models::page::Page;
use tessera_core::plan::documents::{
    self, CustomFieldDocument, LifecycleDocument, QueueDocument, ScripDocument, Stored, TemplateDocument,
    UserDocument,
};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Whether to override uses of the object.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Force {
    /// `true` makes the change even if scrips, templates or lifecycles use the object; tickets are never left stranded.
    #[serde(default)]
    pub force: bool,
}

/// Filters and the page of a list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListParams {
    /// Only disabled objects, or only enabled ones.
    disabled: Option<bool>,
    /// Only objects with this text in their name, ignoring case.
    name: Option<String>,
    /// Items per page, 1 to 200; 50 by default.
    limit: Option<i64>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// The four routes of a type of object.
macro_rules! kind {
    ($module:ident, $document:ident, $what:literal, $path:tt, $one:tt, $list:tt, $add:tt, $show:tt, $change:tt) => {
        mod $module {
            use super::*;

            schema::body!(Sent, concat!($what, "Input"), schema::sent::<$document>());
            schema::body!(Patch, concat!($what, "Patch"), schema::patch::<$document>());
            schema::body!(Answered, $what, schema::answered::<$document>());
            schema::body!(AnsweredPage, concat!($what, "Page"), schema::page($what));

            #[utoipa::path(get, path = $path, operation_id = $list, tag = "configuration", params(ListParams), responses(
                (status = 200, description = "A page, oldest objects first", body = AnsweredPage),
            ))]
            async fn list(
                State(app): State<App>,
                Authenticated(caller): Authenticated,
                Params(params): Params<ListParams>,
            ) -> Result<Json<Page<Stored<$document>>>> {
                list_of(&app, &caller, params).await
            }

            #[utoipa::path(post, path = $path, operation_id = $add, tag = "configuration", request_body = Sent, responses(
                (status = 201, description = "The object was created", body = Answered),
                (status = 409, description = "`name_taken` or `limit_reached`", body = ProblemDocument),
                (status = 422, description = "All faults, with their fields", body = ProblemDocument),
            ))]
            async fn add(
                State(app): State<App>,
                Authenticated(caller): Authenticated,
                body: Body<Map<String, Value>>,
            ) -> Result<(StatusCode, Json<Saved<$document>>)> {
                add_one(&app, &caller, body.value).await
            }

            #[utoipa::path(get, path = $one, operation_id = $show, tag = "configuration", responses(
                (status = 200, description = "The object", body = Answered),
                (status = 404, description = "No object has this name or id", body = ProblemDocument),
            ), params(("id" = String, Path, description = "Name or id")))]
            async fn show(State(app): State<App>,
    Authenticated(caller): Authenticated, Name(word): Name) -> Result<Json<Stored<$document>>> {
                Ok(Json(app.tessera.object(&caller, &word).await?))
            }

            #[utoipa::path(patch, path = $one, operation_id = $change, tag = "configuration", request_body = Patch, responses(
                (status = 200, description = "The object after the change", body = Answered),
                (status = 404, description = "No object has this name or id", body = ProblemDocument),
                (status = 409, description = "`in_use`: other objects use what the change would remove", body = ProblemDocument),
                (status = 422, description = "All faults, with their fields", body = ProblemDocument),
            ), params(("id" = String, Path, description = "Name or id"), Force))]
            async fn change(
                State(app): State<App>,
                Authenticated(caller): Authenticated,
                Name(word): Name,
                Params(Force { force }): Params<Force>,
                body: Body<Map<String, Value>>,
            ) -> Result<Json<Saved<$document>>> {
                change_one(&app, &caller, &word, body.value, force).await
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

async fn list_of<D: Document>(
    app: &App,
    caller: &Caller,
    params: ListParams,
) -> Result<Json<Page<Stored<D>>>> {
    let ListParams { disabled, name, limit: count, cursor } = params;
    let wanted = Wanted { disabled, name };
    Ok(Json(app.tessera.objects(caller, &wanted, cursor.as_deref(), limit(count)?).await?))
}

async fn add_one<D: Document>(
    app: &App,
    caller: &Caller,
    body: Map<String, Value>,
) -> Result<(StatusCode, Json<Saved<D>>)> {
    Ok((StatusCode::CREATED, Json(app.tessera.add(caller, documents::read(body)?).await?)))
}

async fn change_one<D: Document>(
    app: &App,
    caller: &Caller,
    word: &str,
    patch: Map<String, Value>,
    force: bool,
) -> Result<Json<Saved<D>>> {
    Ok(Json(app.tessera.change(caller, word, patch, force).await?))
}

/// The custom fields of a queue.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct QueueFields {
    /// Names or ids, in the order in which tickets show them.
    custom_fields: Vec<String>,
}

#[utoipa::path(put, path = "/api/queues/{id}/custom-fields", operation_id = "setQueueCustomFields", tag = "configuration",
    request_body = QueueFields, params(("id" = String, Path, description = "Name or id")), responses(
    (status = 200, description = "The queue after the change", body = queues::Answered),
    (status = 404, description = "The queue does not exist", body = ProblemDocument),
    (status = 422, description = "All faults, with their fields", body = ProblemDocument),
))]
async fn set_queue_fields(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Name(word): Name,
    body: Body<QueueFields>,
) -> Result<Json<Saved<QueueDocument>>> {
    let patch = Map::from_iter([("custom_fields".to_owned(), json!(body.value.custom_fields))]);
    change_one(&app, &caller, &word, patch, false).await
}
