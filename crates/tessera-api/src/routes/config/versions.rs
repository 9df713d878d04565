//! Versions of objects: list, read, compare, restore.

use super::kinds::Force;
use crate::app::App;
use crate::error::{ProblemDocument, Result};
use crate::extract::{Authenticated, Name, Paging, Params, Segments, limit};
use crate::schema;
use axum::Json;
use axum::extract::State;
use tessera_core::desk::configure::{Comparison, Saved, Version};
use tessera_core::models::page::Page;
use tessera_core::plan::documents::{LifecycleDocument, ScripDocument, TemplateDocument};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The four routes of a type whose versions are kept.
macro_rules! versions {
    ($module:ident, $document:ident, $what:literal, $path:literal, $list:literal, $show:literal, $compare:literal, $restore:literal) => {
        mod $module {
            use super::*;

            schema::body!(Shown, concat!($what, "Version"), schema::version::<$document>());
            schema::body!(
                ShownPage,
                concat!($what, "VersionPage"),
                schema::page(concat!($what, "Version"))
            );
            schema::body!(
                Compared,
                concat!($what, "Comparison"),
                schema::comparison(concat!($what, "Version"))
            );
            schema::body!(Answered, $what, schema::answered::<$document>());

            #[utoipa::path(get, path = concat!($path, "/versions"), operation_id = $list, tag = "configuration", responses(
                (status = 200, description = "A page, newest versions first", body = ShownPage),
                (status = 404, description = "No object has this name or id", body = ProblemDocument),
            ), params(("id" = String, Path, description = "Name or id"), Paging))]
            async fn list(
                State(app): State<App>,
                Authenticated(caller): Authenticated,
                Name(word): Name,
                Params(paging): Params<Paging>,
            ) -> Result<Json<Page<Version>>> {
                let (cursor, limit) = (paging.cursor.as_deref(), limit(paging.limit)?);
                Ok(Json(app.tessera.versions::<$document>(&caller, &word, cursor, limit).await?))
            }

            #[utoipa::path(get, path = concat!($path, "/versions/{n}"), operation_id = $show, tag = "configuration", responses(
                (status = 200, description = "The object at that version", body = Shown),
                (status = 404, description = "The object or the version does not exist", body = ProblemDocument),
            ), params(("id" = String, Path, description = "Name or id"),
                      ("n" = i32, Path, description = "The number of the version", minimum = 1)))]
            async fn show(
                State(app): State<App>,
                Authenticated(caller): Authenticated,
                Segments((word, version)): Segments<(String, i32)>,
            ) -> Result<Json<Version>> {
                Ok(Json(app.tessera.version::<$document>(&caller, &word, version).await?))
            }

            #[utoipa::path(get, path = concat!($path, "/versions/{n}/compare/{m}"), operation_id = $compare, tag = "configuration", responses(
                (status = 200, description = "Every member in which version m differs from version n", body = Compared),
                (status = 404, description = "The object or the version does not exist", body = ProblemDocument),
            ), params(("id" = String, Path, description = "Name or id"),
                      ("n" = i32, Path, description = "From this version", minimum = 1),
                      ("m" = i32, Path, description = "To this version", minimum = 1)))]
            async fn compare(
                State(app): State<App>,
                Authenticated(caller): Authenticated,
                Segments((word, from, to)): Segments<(String, i32, i32)>,
            ) -> Result<Json<Comparison>> {
                Ok(Json(app.tessera.compare::<$document>(&caller, &word, from, to).await?))
            }

            /// Restores an object to an earlier version. This creates a new version with the same content, checked like any change.
            #[utoipa::path(post, path = concat!($path, "/versions/{n}/restore"), operation_id = $restore, tag = "configuration", responses(
                (status = 200, description = "The object after the change", body = Answered),
                (status = 404, description = "The object or the version does not exist", body = ProblemDocument),
                (status = 409, description = "`in_use`, `name_taken` or `limit_reached`", body = ProblemDocument),
                (status = 422, description = "Everything in the version that no longer fits, with its field", body = ProblemDocument),
            ), params(("id" = String, Path, description = "Name or id"),
                      ("n" = i32, Path, description = "The version to restore", minimum = 1), Force))]
            async fn restore(
                State(app): State<App>,
                Authenticated(caller): Authenticated,
                Segments((word, version)): Segments<(String, i32)>,
                Params(Force { force }): Params<Force>,
            ) -> Result<Json<Saved<$document>>> {
                Ok(Json(app.tessera.restore(&caller, &word, version, force).await?))
            }

            pub(super) fn routes() -> OpenApiRouter<App> {
                OpenApiRouter::new()
                    .routes(routes!(list))
                    .routes(routes!(show))
                    .routes(routes!(compare))
                    .routes(routes!(restore))
            }
        }
    };
}

versions!(
    scrips,
    ScripDocument,
    "Scrip",
    "/api/scrips/{id}",
    "listScripVersions",
    "getScripVersion",
    "compareScripVersions",
    "restoreScripVersion"
);
versions!(
    templates,
    TemplateDocument,
    "Template",
    "/api/templates/{id}",
    "listTemplateVersions",
    "getTemplateVersion",
    "compareTemplateVersions",
    "restoreTemplateVersion"
);
versions!(
    lifecycles,
    LifecycleDocument,
    "Lifecycle",
    "/api/lifecycles/{id}",
    "listLifecycleVersions",
    "getLifecycleVersion",
    "compareLifecycleVersions",
    "restoreLifecycleVersion"
);

pub(super) fn routes() -> OpenApiRouter<App> {
    scrips::routes().merge(templates::routes()).merge(lifecycles::routes())
}
