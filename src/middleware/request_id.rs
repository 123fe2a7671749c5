//! The id of a request: taken from the client when it is short and safe, else made; as `x-request-id` on every answer.

use axum::extract::Request;
use axum::http::HeaderName;

use crate::serving::RequestId;

pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Where clients of platforms put it: Amazon SageMaker, and events of Knative and KServe.
const OTHERS: [HeaderName; 2] = [
    HeaderName::from_static("x-amzn-sagemaker-inference-id"),
    HeaderName::from_static("ce-id"),
];

pub(super) fn take_or_make(request: &Request) -> RequestId {
    let headers = request.headers();
    let given = |name: &HeaderName| headers.get(name).and_then(RequestId::of_header);
    let given = given(&HEADER).or_else(|| OTHERS.iter().find_map(given));
    given.unwrap_or_else(RequestId::make)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn id(headers: &[(&str, &str)]) -> RequestId {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        take_or_make(&request.body(Body::empty()).unwrap())
    }

    #[test]
    fn the_first_header_that_holds_an_id_counts() {
        let amazon = ("X-Amzn-SageMaker-Inference-Id", "a");
        assert_eq!(id(&[amazon, ("ce-id", "c")]).as_str(), "a");
        assert_eq!(id(&[("ce-id", "c")]).as_str(), "c");
        assert_eq!(id(&[("x-request-id", "x"), amazon]).as_str(), "x");
        assert_eq!(id(&[("x-request-id", "x y"), amazon]).as_str(), "a");
        assert!(id(&[]).is_made());
    }
}
