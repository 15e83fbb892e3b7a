//! What may change in a schema: nothing that a reader relied on may go.
//!
//! A reader reads what is there. So a property may come and go from not being required to being so, and a type may
//! become narrower; no property may go, none that was always there may be left out, and nothing may have a type that it
//! did not have. Words may be added to an enumeration, never taken away: a taken one was renamed.

use std::collections::BTreeSet;

use serde_json::Value;

/// What readers of `old` would miss in `new`, one sentence each.
pub(crate) fn breaks(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", old, new, &mut found);
    found
}

fn compare(at: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    let mut tell = |what: String| found.push(format!("{}: {what}", if at.is_empty() { "/" } else { at }));
    if let Some(was) = types(old) {
        match types(new) {
            None => tell("had a type and may be anything".to_owned()),
            Some(is) => {
                // Every integer is a number.
                let known = |t: &&String| was.contains(*t) || *t == "integer" && was.contains("number");
                for t in is.iter().filter(|t| !known(t)) {
                    tell(format!("may be {t}, and was {was:?} only"));
                }
            }
        }
    }
    for key in ["const", "format", "pattern"] {
        if let Some(was) = old.get(key)
            && new.get(key) != Some(was)
        {
            tell(format!("{key} was {was}"));
        }
    }
    if let Some(was) = old.get("minimum").and_then(Value::as_f64)
        && new.get("minimum").and_then(Value::as_f64).is_none_or(|is| is < was)
    {
        tell(format!("was never less than {was}"));
    }
    let words = |schema: &Value| schema.get("enum").and_then(Value::as_array).cloned();
    if let Some(was) = words(old) {
        match words(new) {
            None => tell("was an enumeration".to_owned()),
            Some(is) => {
                was.iter().filter(|word| !is.contains(word)).for_each(|word| tell(format!("lost {word}")));
            }
        }
    }
    let required = |schema: &Value| -> BTreeSet<String> {
        let list = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    for key in required(old).difference(&required(new)) {
        tell(format!("`{key}` was always there"));
    }
    let properties = |schema: &Value| schema.get("properties").and_then(Value::as_object).cloned();
    for (key, was) in properties(old).into_iter().flatten() {
        match new.pointer(&format!("/properties/{key}")) {
            None => found.push(format!("{at}/{key}: is gone")),
            Some(is) => compare(&format!("{at}/{key}"), &was, is, found),
        }
    }
    for (key, name) in [("items", "[]"), ("additionalProperties", "{}"), ("then", "")] {
        if let Some(was) = old.get(key).filter(|was| was.is_object()) {
            compare(&format!("{at}{name}"), was, new.get(key).unwrap_or(&Value::Bool(true)), found);
        }
    }
    alternatives(at, old, new, found);
}

/// `anyOf` and `oneOf`: each way that is new was one before. `allOf`: each rule that was there is there, told by its condition.
fn alternatives(at: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    let list = |schema: &Value, key: &str| schema.get(key).and_then(Value::as_array).cloned();
    let ways = |schema: &Value| list(schema, "anyOf").or_else(|| list(schema, "oneOf"));
    if let Some(was) = ways(old) {
        let is = ways(new).unwrap_or_else(|| vec![new.clone()]);
        for way in &is {
            let fits = was.iter().map(|was| breaks(was, way)).min_by_key(Vec::len).unwrap_or_default();
            found.extend(fits.into_iter().map(|what| format!("{at}: one of several: {what}")));
        }
    }
    let rules = list(new, "allOf").unwrap_or_default();
    for was in list(old, "allOf").into_iter().flatten() {
        let condition = was.get("if");
        match rules.iter().find(|is| is.get("if") == condition) {
            None => found.push(format!("{at}: the rule where {} is gone", condition.unwrap_or(&Value::Null))),
            Some(is) => compare(at, &was, is, found),
        }
    }
}

fn types(schema: &Value) -> Option<BTreeSet<String>> {
    let word = |t: &Value| t.as_str().map(str::to_owned);
    match schema.get("type")? {
        Value::Array(all) => Some(all.iter().filter_map(word).collect()),
        one => Some(word(one).into_iter().collect()),
    }
}
