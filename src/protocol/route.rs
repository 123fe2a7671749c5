//! The row type of the route table.

use std::borrow::Cow;

use axum::http::Method;
use axum::routing::MethodRouter;

use super::access::Access;
use super::openapi::{Operation, Row};
use super::state::Shared;
use crate::http::Surface;

/// One row of the route table.
pub(crate) struct Route {
    pub(crate) path: Cow<'static, str>,
    pub(crate) surface: Surface,
    pub(crate) methods: MethodRouter<Shared>,
    /// Its description in `/openapi.json`: one operation per method.
    pub(crate) operations: Vec<Operation>,
}

impl Route {
    pub(crate) fn new(
        path: impl Into<Cow<'static, str>>,
        surface: Surface,
        methods: MethodRouter<Shared>,
        operations: Vec<Operation>,
    ) -> Self {
        Self {
            path: path.into(),
            surface,
            methods,
            operations,
        }
    }

    /// Who may use each of its methods.
    pub(crate) fn decisions(&self) -> Vec<(Method, Access)> {
        let decision = |operation: &Operation| {
            let method = operation.method.to_uppercase();
            let method = Method::from_bytes(method.as_bytes()).ok()?;
            Some((method, operation.access))
        };
        self.operations.iter().filter_map(decision).collect()
    }

    /// What `/openapi.json` tells of it.
    pub(crate) fn row(&self) -> Row {
        Row {
            path: self.path.to_string(),
            surface: self.surface,
            operations: self.operations.clone(),
        }
    }
}
