//! `/v1/explain`: which route a request takes under the rules in force. Sends nothing.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State as Shared},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::Value;

use super::{Api, call::Body, failure::Failure};
use crate::controlplane::explain::{self, Question};

/// The keys of a question, for a did-you-mean.
const HINT: &str = "send {\"method\": \"GET\", \"url\": \"http://a.test/x\", \"headers\": [\"name: \
                    value\"], \"listener\": \"edge\"}; headers and listener may be left out";

/// A request to explain.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    method: String,
    url: String,
    #[serde(default)]
    headers: Vec<String>,
    listener: Option<String>,
}

/// `POST /v1/explain`
pub(super) async fn post(api: Shared<Api>, body: Body) -> Result<Response, Failure> {
    let object = Value::Object(body.object()?);
    let asked: Asked = serde_json::from_value(object)
        .map_err(|error| Failure::bad("", error.to_string(), HINT))?;
    answer(&api, &asked)
}

/// `GET /v1/explain?method=GET&url=...&header=name:%20value&listener=edge`
pub(super) async fn get(
    api: Shared<Api>,
    query: Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Failure> {
    const HINT: &str = "it takes method, url, header (several times) and listener";
    let Ok(Query(query)) = query else {
        return Err(Failure::bad("", "the query can't be read", HINT));
    };
    let mut asked =
        Asked { method: String::new(), url: String::new(), headers: Vec::new(), listener: None };
    for (name, value) in query {
        match name.as_str() {
            "method" => asked.method = value,
            "url" => asked.url = value,
            "header" => asked.headers.push(value),
            "listener" => asked.listener = Some(value),
            _ => return Err(Failure::bad(&name, format!("unknown parameter \"{name}\""), HINT)),
        }
    }
    if asked.method.is_empty() || asked.url.is_empty() {
        return Err(Failure::bad("", "method and url are needed", HINT));
    }
    answer(&api, &asked)
}

fn answer(api: &Api, asked: &Asked) -> Result<Response, Failure> {
    let snapshot = Arc::clone(&api.state.rules().snapshot);
    let question = Question {
        method: &asked.method,
        url: &asked.url,
        headers: &asked.headers,
        listener: asked.listener.as_deref(),
    };
    let explained = explain::explain(&*snapshot, &question)
        .map_err(|message| Failure::bad("", message, HINT))?;
    let mut answer = explained.to_json();
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("version".into(), snapshot.version.into());
        fields.insert("text".into(), explained.to_text().into());
    }
    Ok(Json(answer).into_response())
}
