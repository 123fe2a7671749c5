//! The span of a request, named and described as OpenTelemetry's conventions have it.

use axum::extract::Request;
use axum::http::{Method, Version, header};
use axum::response::Response;

use super::access_log::is_probe;
use super::{Form, grpc};
use crate::serving::RequestId;
use crate::telemetry::{Trace, Tracer};

/// Longer ones are cut.
const LONGEST_TEXT: usize = 512;

/// Codes of gRPC that are the server's fault: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
const FAULTS: [i32; 6] = [2, 4, 12, 13, 14, 15];

/// UNIMPLEMENTED: there is no such method, so that its name is the client's invention.
const UNIMPLEMENTED: i32 = 12;

/// A request that is traced.
pub(super) struct Traced {
    trace: Trace,
    /// The service and the method of a call.
    call: Option<String>,
    done: bool,
}

impl Traced {
    /// `None` for what is not sampled, and for probes.
    pub(super) fn begin(
        tracer: &Tracer,
        form: Form,
        request: &Request,
        id: &RequestId,
    ) -> Option<Self> {
        if !tracer.is_on() || is_probe(request.uri().path()) {
            return None;
        }
        let call = (form == Form::Grpc).then(|| cut(request.uri().path().trim_start_matches('/')));
        // The pattern of the route comes once the router has found it.
        let name = match &call {
            Some(_) => "grpc",
            None => method(request.method()),
        };
        let trace = tracer.serve(name.to_owned(), request.headers())?;
        let text = |name| request.headers().get(name)?.to_str().ok().map(cut);
        match &call {
            Some(_) => trace.set("rpc.system", "grpc"),
            None => {
                trace.set("http.request.method", method(request.method()));
                trace.set("url.path", cut(request.uri().path()));
                trace.set("url.scheme", "http");
            }
        }
        if let Some(agent) = text(header::USER_AGENT) {
            trace.set("user_agent.original", agent);
        }
        trace.set(
            "network.protocol.version",
            protocol_version(request.version()),
        );
        trace.set("onstage.request_id", id.as_str().to_owned());
        let done = false;
        Some(Self { trace, call, done })
    }

    /// Runs the request as part of its trace, and tells how it ended.
    pub(super) async fn around(mut self, work: impl Future<Output = Response>) -> Response {
        let response = self.trace.clone().scope(work).await;
        self.done = true;
        match self.call.take() {
            Some(call) => self.end_call(call, &response),
            None => self.end_http(&response),
        }
        self.trace.end();
        response
    }

    fn end_http(&self, response: &Response) {
        let status = response.status();
        self.trace.set("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            self.trace.fail("server_error");
        }
    }

    fn end_call(&self, call: String, response: &Response) {
        // A status in the head is the only thing there; what has a body was answered.
        let code = grpc::status(response.headers()).unwrap_or(0);
        self.trace.set("rpc.grpc.status_code", code);
        if FAULTS.contains(&code) {
            self.trace.fail("grpc");
        }
        if code != UNIMPLEMENTED
            && let Some((service, method)) = call.split_once('/')
        {
            self.trace.set("rpc.service", service.to_owned());
            self.trace.set("rpc.method", method.to_owned());
            self.trace.rename(call);
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if !self.done {
            self.trace.fail("cancelled");
            self.trace.end();
        }
    }
}

/// The known methods: a client can write any word there.
fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "HTTP",
    }
}

fn protocol_version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

fn cut(text: &str) -> String {
    let end = text.char_indices().nth(LONGEST_TEXT);
    text[..end.map_or(text.len(), |(end, _)| end)].to_owned()
}
