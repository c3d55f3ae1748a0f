//! Refusals of the admin API: one shape for all, with everything that is wrong.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use crate::controlplane::{
    changes::{Refused, Why},
    config::{
        Problem, Severity,
        overlay::{Kind, Overlay},
    },
};

/// What messages call the body of a call.
pub(super) const REQUEST: &str = "request";

/// A call that is refused. Boxed, as handlers pass it through every `?`.
#[derive(Debug)]
pub(super) struct Failure(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    problems: Vec<Value>,
    retry: bool,
}

impl Failure {
    /// One mistake.
    pub(super) fn new(
        status: StatusCode,
        key: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let problem = json!({
            "file": REQUEST,
            "key": key,
            "message": message.into(),
            "hint": hint.into(),
            "severity": Severity::Error,
        });
        Self::of(status, vec![problem])
    }

    /// A 400.
    pub(super) fn bad(key: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, key, message, hint)
    }

    /// Several mistakes, as JSON; at least one.
    pub(super) fn of(status: StatusCode, problems: Vec<Value>) -> Self {
        Self(Box::new(Parts { status, problems, retry: false }))
    }

    /// A change that was refused. `asked` is the object it was about: what is wrong with that one is
    /// wrong with the request.
    pub(super) fn refused(
        refused: &Refused,
        overlay: &Overlay,
        asked: Option<(Kind, &str)>,
    ) -> Self {
        let status = match refused.why {
            Why::Invalid => StatusCode::BAD_REQUEST,
            Why::NotFound => StatusCode::NOT_FOUND,
            Why::Conflict => StatusCode::CONFLICT,
            Why::Precondition => StatusCode::PRECONDITION_FAILED,
            Why::Machine => StatusCode::INSUFFICIENT_STORAGE,
            Why::Leaving => StatusCode::SERVICE_UNAVAILABLE,
            Why::Busy => StatusCode::TOO_MANY_REQUESTS,
        };
        let problems = refused.problems.iter().map(|one| show(one, overlay, asked)).collect();
        let retry = matches!(refused.why, Why::Leaving | Why::Busy);
        Self(Box::new(Parts { status, problems, retry }))
    }

    /// The same with another status.
    pub(super) fn with_status(mut self, from: StatusCode, to: StatusCode) -> Self {
        if self.0.status == from {
            self.0.status = to;
        }
        self
    }
}

/// A problem as JSON. Lines of TOML that nobody wrote are left out.
pub(super) fn show(problem: &Problem, overlay: &Overlay, asked: Option<(Kind, &str)>) -> Value {
    let mut out = Map::new();
    let generated = *problem.file == *overlay.name();
    let object = generated.then(|| overlay.object_at(problem.line)).flatten();
    let file = match object {
        Some(object) if asked != Some((object.kind, &object.name)) => {
            format!("admin API: {}", object.title())
        }
        Some(_) => REQUEST.to_owned(),
        None if generated => "admin API".to_owned(),
        None if problem.file.is_empty() => REQUEST.to_owned(),
        None => problem.file.to_string(),
    };
    out.insert("file".into(), file.into());
    if !generated && problem.line > 0 {
        out.insert("line".into(), problem.line.into());
        out.insert("column".into(), problem.column.into());
    }
    out.insert("key".into(), (*problem.key).into());
    out.insert("message".into(), (*problem.message).into());
    out.insert("hint".into(), (*problem.hint).into());
    out.insert("severity".into(), json!(problem.severity));
    Value::Object(out)
}

impl IntoResponse for Failure {
    /// `{"error", "hint", "problems": [...]}`; error and hint are those of the first mistake.
    fn into_response(self) -> Response {
        let Parts { status, problems, retry } = *self.0;
        let is_error = |one: &&Value| one["severity"] == json!(Severity::Error);
        let first = problems.iter().find(is_error).or(problems.first());
        let text = |name: &str| first.map_or(Value::Null, |one| one[name].clone());
        let body = json!({
            "error": text("message"),
            "hint": text("hint"),
            "problems": problems,
        });
        let mut response = (status, Json(body)).into_response();
        if retry {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
