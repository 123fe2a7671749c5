//! The interactive page: Swagger UI out of this binary, which asks no other server for anything.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::sync::LazyLock;

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;
use zip::result::ZipResult;

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
    <script src="docs/swagger-initializer.js" charset="UTF-8"></script>
  </body>
</html>
"#;

/// Starts Swagger UI. The document is beside the page. No badge of a validator, which is on another server; the layout
/// without a bar in which other documents could be opened.
const INITIALIZER: &str = r##"window.onload = () => {
  window.ui = SwaggerUIBundle({
    url: "openapi.json",
    dom_id: "#swagger-ui",
    presets: [SwaggerUIBundle.presets.apis],
    layout: "BaseLayout",
    deepLinking: true,
    tryItOutEnabled: true,
    validatorUrl: "none",
  });
};
"##;

const INITIALIZER_NAME: &str = "swagger-initializer.js";

/// What the page asks for of Swagger UI, with its content type.
const FILES: [(&str, &str); 4] = [
    ("swagger-ui.css", "text/css"),
    ("index.css", "text/css"),
    ("favicon-32x32.png", "image/png"),
    ("swagger-ui-bundle.js", JAVASCRIPT),
];

const JAVASCRIPT: &str = "text/javascript";

/// The files, by name, out of the archive of Swagger UI; empty if that cannot be read.
static CONTENTS: LazyLock<HashMap<&'static str, Bytes>> = LazyLock::new(|| {
    unpack().unwrap_or_else(|error| {
        tracing::error!(%error, "the files of Swagger UI cannot be read");
        HashMap::new()
    })
});

fn unpack() -> ZipResult<HashMap<&'static str, Bytes>> {
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    let mut contents = HashMap::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let file = entry
            .name()?
            .split_once("/dist/")
            .map(|(_, file)| file.to_owned());
        let known = FILES.iter().find(|(name, _)| file.as_deref() == Some(name));
        if let Some((name, _)) = known {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            contents.insert(*name, bytes.into());
        }
    }
    Ok(contents)
}

/// `GET /docs`.
pub(crate) async fn page() -> Response {
    guarded(
        "text/html; charset=utf-8",
        Bytes::from_static(PAGE.as_bytes()),
    )
}

/// `GET /docs/{file}`.
pub(crate) async fn file(Path(name): Path<String>) -> Response {
    if name == INITIALIZER_NAME {
        return guarded(JAVASCRIPT, Bytes::from_static(INITIALIZER.as_bytes()));
    }
    let known = FILES.iter().find(|(known, _)| *known == name);
    let found = known.and_then(|(known, kind)| Some((*kind, CONTENTS.get(known)?.clone())));
    match found {
        Some((content_type, bytes)) => guarded(content_type, bytes),
        None => Surface::Mlflow.plain_error(StatusCode::NOT_FOUND, "Not Found"),
    }
}

fn guarded(content_type: &'static str, body: Bytes) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
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
