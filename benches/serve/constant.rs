//! The limit of what a server on axum can do: the body is read, and the answer is a constant.

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::routing::post;
use axum::serve::ListenerExt;

/// What onstage answers for iris, so that the bytes on the wire are as many.
const ANSWER: &str = r#"{"predictions": {"label": [0], "probabilities": [[0.9784996509552002, 0.021500300616025925, 8.526622252702509e-08]]}}"#;

/// Serves until it is killed.
pub(crate) async fn serve() {
    run(router()).await;
}

/// The same for bodies of any size, which axum ends at 2 MB otherwise.
pub(crate) async fn sink() {
    run(router().layer(DefaultBodyLimit::disable())).await;
}

fn router() -> Router {
    let answer = |_: Bytes| async { ([(header::CONTENT_TYPE, "application/json")], ANSWER) };
    Router::new().fallback(post(answer))
}

/// Serves on a free port, which it prints.
pub(crate) async fn run(router: Router) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a free port");
    println!("{}", listener.local_addr().expect("it is bound"));
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("TCP"));
    axum::serve(listener, router)
        .await
        .expect("it serves until it is killed");
}
