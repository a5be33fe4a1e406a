//! Outcomes and errors as HTTP answers.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use node::api::{ApiError, Outcome};
use serde_json::{Value, json};

/// An answer with a JSON body.
pub(super) fn json_answer(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    with_type(status, "application/json", Body::from(body))
}

/// An answer of some type.
pub(super) fn with_type(
    status: StatusCode,
    content_type: &'static str,
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// What came of a call.
pub(super) fn outcome_answer(outcome: &Outcome) -> Response<Body> {
    match serde_json::to_vec(outcome) {
        Ok(body) => json_answer(StatusCode::OK, body),
        Err(_) => plain_error(StatusCode::INTERNAL_SERVER_ERROR, 13, "this has no JSON"),
    }
}

/// Why a call was not done.
pub(super) fn error_answer(error: &ApiError) -> Response<Body> {
    let status = StatusCode::from_u16(error.http_status());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let details = match error {
        ApiError::InvalidArgument { field, why } => json!([{"field": field, "description": why}]),
        ApiError::Unauthenticated(_)
        | ApiError::PermissionDenied(_)
        | ApiError::NotFound(_)
        | ApiError::AlreadyExists(_)
        | ApiError::Conflict(_)
        | ApiError::ResourceExhausted(_)
        | ApiError::Unimplemented(_)
        | ApiError::Unavailable(_)
        | ApiError::UnknownOutcome => json!([]),
    };
    let mut response = error_body(status, error.grpc_code(), &error.to_string(), &details);
    if status == StatusCode::UNAUTHORIZED {
        let bearer = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
    }
    response
}

/// An error of the web layer itself.
pub(super) fn plain_error(status: StatusCode, code: u8, message: &str) -> Response<Body> {
    error_body(status, code, message, &json!([]))
}

fn error_body(status: StatusCode, code: u8, message: &str, details: &Value) -> Response<Body> {
    let body = json!({"code": code, "message": message, "details": details});
    json_answer(status, body.to_string().into_bytes())
}
