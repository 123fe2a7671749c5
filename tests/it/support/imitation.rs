//! A server over HTTP that answers what a test says, for what a real one only answers on a bad day.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// One request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }
}

/// A server that answers what a function says, and remembers what it was asked.
pub(crate) struct Imitation {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    router: Router,
    task: Mutex<JoinHandle<()>>,
}

impl Imitation {
    pub(crate) async fn start(answer: impl Fn(&Asked) -> Response + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", answer).await
    }

    /// The same on another address of this machine, which is another host.
    pub(crate) async fn start_at(
        address: &str,
        answer: impl Fn(&Asked) -> Response + Send + Sync + 'static,
    ) -> Self {
        onstage::network::install_provider();
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (answer, seen) = (Arc::new(answer), asked.clone());
        let router = Router::new().fallback(move |request: Request| {
            let (answer, seen) = (answer.clone(), seen.clone());
            async move {
                let path = request.uri().path_and_query().unwrap().to_string();
                let headers = request.headers().clone();
                let asked = Asked { path, headers };
                seen.lock().unwrap().push(asked.clone());
                answer(&asked)
            }
        });
        let served = router.clone();
        let task = tokio::spawn(async move { axum::serve(listener, served).await.unwrap() });
        Self {
            url,
            asked,
            router,
            task: Mutex::new(task),
        }
    }

    /// Takes no connections any more.
    pub(crate) async fn go_down(&self) {
        let task = {
            let mut task = self.task.lock().unwrap();
            task.abort();
            std::mem::replace(&mut *task, tokio::spawn(async {}))
        };
        let _ = task.await;
    }

    /// Takes connections again, at the same address.
    pub(crate) async fn come_up(&self) {
        self.go_down().await;
        let address = self.url.strip_prefix("http://").unwrap();
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let router = self.router.clone();
        *self.task.lock().unwrap() =
            tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    }

    /// The requests since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

pub(crate) fn json_answer(value: &Value) -> Response {
    axum::Json(value.clone()).into_response()
}

pub(crate) fn with_status(status: u16, kind: &'static str, body: &'static str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, [("content-type", kind)], body).into_response()
}

pub(crate) fn absent() -> Response {
    let body = json!({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not found"});
    (StatusCode::NOT_FOUND, axum::Json(body)).into_response()
}
