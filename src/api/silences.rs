//! Silences: added, listed, removed.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::json;

use super::{ApiError, Endpoint, Page, View, check_named, clip, list as listed, read, written};
use crate::findings::{Ledger, Match, Silence, SilenceError};
use crate::model::Time;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    r#match: Match,
    r#for: String,
    why: String,
    who: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    limit: Option<u64>,
    #[serde(default)]
    after: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remove {
    id: String,
}

impl From<SilenceError> for ApiError {
    fn from(error: SilenceError) -> Self {
        let code = if error == SilenceError::TooMany { 503 } else { 400 };
        Self::new(code, &error.to_string())
    }
}

/// Adds a silence, whose ID is to be `id`.
///
/// # Errors
/// The request is no good, or there are too many.
pub fn add(body: &[u8], ledger: &mut Ledger, id: &str, now: Time) -> Result<Vec<u8>, ApiError> {
    let Add { r#match: mut matches, r#for: lasts, why, who } = read(Endpoint::SilenceAdd, body)?;
    if let Some(check) = &matches.check {
        matches.check = Some(check_named(check)?.manual().slug.into());
    }
    let lasts = humantime::parse_duration(&lasts).map_err(|_| {
        ApiError::new(
            400,
            &format!("`for` is a duration such as \"30m\" or \"2h\", and not {:?}", clip(&lasts)),
        )
    })?;
    let silence = Silence::new(id.to_owned(), matches, lasts, [&why, &who], now)?;
    ledger.silence(silence.clone(), now)?;
    answered("silence_add_response", &silence)
}

/// Ends a silence before its time.
///
/// # Errors
/// The request is no good, or there is no such silence.
pub fn remove(body: &[u8], ledger: &mut Ledger, now: Time) -> Result<Vec<u8>, ApiError> {
    let Remove { id } = read(Endpoint::SilenceRemove, body)?;
    let silence = ledger.unsilence(&id, now).ok_or_else(|| {
        ApiError::new(
            404,
            &format!("there is no silence `{}`; the endpoint `silence.list` has all", clip(&id)),
        )
    })?;
    answered("silence_remove_response", &silence)
}

pub(super) fn list(body: &[u8], view: &View<'_>) -> Result<Vec<u8>, ApiError> {
    let List { limit, after } = read(Endpoint::SilenceList, body)?;
    let page = Page::of(limit, after.as_deref())?;
    let stands = || view.ledger.silences().iter().filter(|silence| silence.ends_at > view.now);
    let items = stands()
        .filter(|silence| page.after.is_none_or(|after| *silence.id > *after))
        .map(|silence| (silence.id.clone(), Cow::Owned(serde_json::to_vec(silence).unwrap_or_default())));
    let bounds = [page.limit, stands().count(), view.answer_bytes_max];
    Ok(listed("silence_list_response", "silences", items, bounds))
}

fn answered(kind: &str, silence: &Silence) -> Result<Vec<u8>, ApiError> {
    written(&json!({ "type": format!("io.nats.gatewatch.api.v1.{kind}"), "silence": silence }))
}
