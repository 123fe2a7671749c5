//! Answers in JSON, taken apart: what tests of several protocols ask for.

use serde_json::Value;

use crate::support::server::Server;

/// Status and body of something that is read.
pub(crate) async fn get(server: &Server, path: &str) -> (u16, Value) {
    let response = server.get(path).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap())
}

/// The message of a request that must be refused with this status; it is all that the body holds.
pub(crate) async fn refused(
    server: &Server,
    path: &str,
    body: impl ToString,
    status: u16,
) -> String {
    let body = body.to_string();
    let (found, answer) = server.post_json(path, body.clone()).await;
    assert_eq!(found, status, "{path} {body}: {answer}");
    let message = answer["error"].as_str();
    let message = message.unwrap_or_else(|| panic!("no `error` in {answer}"));
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    message.to_owned()
}
