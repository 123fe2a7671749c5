//! The interactive page: Swagger UI out of this binary, which asks no other server for anything.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa_swagger_ui::Config;

use crate::http::Surface;

/// Nothing from elsewhere, and nothing of it in a frame. Swagger UI writes `style` attributes and has its icons in `data:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page. Its links are relative, so that it works under any prefix, also one that a proxy takes away.
const PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="UTF-8">
    <title>onstage</title>
    <link rel="stylesheet" href="docs/swagger-ui.css">
    <link rel="stylesheet" href="docs/index.css">
    <link rel="icon" type="image/png" href="docs/favicon-32x32.png" sizes="32x32">
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="docs/swagger-ui-bundle.js" charset="UTF-8"></script>
    <script src="docs/swagger-ui-standalone-preset.js" charset="UTF-8"></script>
    <script src="docs/swagger-initializer.js" charset="UTF-8"></script>
  </body>
</html>
"#;

/// What the page asks for. The package has more: a page of its own, whose links are others.
const FILES: [&str; 6] = [
    "swagger-ui.css",
    "index.css",
    "favicon-32x32.png",
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
    "swagger-initializer.js",
];

/// The document is beside the page. No badge of a validator, which is on another server; the layout without a bar in which
/// other documents could be opened.
static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    let config = Config::new(["openapi.json"]);
    let config = config.use_base_layout().validator_url("none");
    Arc::new(config.deep_linking(true).try_it_out_enabled(true))
});

/// `GET /docs`.
pub(crate) async fn page() -> Response {
    guarded(
        "text/html; charset=utf-8",
        Bytes::from_static(PAGE.as_bytes()),
    )
}

/// `GET /docs/{file}`.
pub(crate) async fn file(Path(name): Path<String>) -> Response {
    let known = FILES.contains(&name.as_str());
    let config = Arc::clone(&CONFIG);
    let found = known.then(|| utoipa_swagger_ui::serve(&name, config).ok().flatten());
    match found.flatten() {
        Some(file) => {
            let bytes = match file.bytes {
                Cow::Borrowed(bytes) => Bytes::from_static(bytes),
                Cow::Owned(bytes) => bytes.into(),
            };
            guarded(&file.content_type, bytes)
        }
        None => Surface::Mlflow.plain_error(StatusCode::NOT_FOUND, "Not Found"),
    }
}

fn guarded(content_type: &str, body: Bytes) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_str(content_type);
    let unknown = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, content_type.unwrap_or(unknown));
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // The files are those of this version of the program; asking again is cheap.
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
