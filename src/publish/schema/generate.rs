//! From the types that are serialised to their schemas.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, transform};
use serde_json::{Map, Value, json};

use crate::model::Written;
use crate::publish::event::{AgentMessage, EpochMessage, FindingEvent};

/// The keys of evidence that the contract names, by check, and what they hold. More may stand beside them.
pub(super) const EVIDENCE: &[(&str, &[(&str, Holds)])] = {
    use Holds::{AnyNumber, Count, Counts, Differences, Names, Number, Text, Time, YesOrNo};
    const PRESSURE: &[(&str, Holds)] =
        &[("pending_bytes", Count), ("rtt_ms", AnyNumber), ("drain_bytes_per_s", AnyNumber)];
    &[
        (
            "gateway_disconnected",
            &[
                ("absent_ms", Number),
                ("configured", YesOrNo),
                ("peers_connected", Names),
                ("peers_total", Count),
            ],
        ),
        ("cluster_unreachable", &[("servers", Names), ("last_heard_at", Time), ("still_seen_by", Names)]),
        ("gateway_config_mismatch", &[("differs", Differences), ("expected_block", Text)]),
        ("gateway_pending_pressure", PRESSURE),
        ("route_pending_pressure", PRESSURE),
        (
            "gateway_traffic_ratio",
            &[
                ("ratio", AnyNumber),
                ("gateway_bytes", Count),
                ("published_bytes", Count),
                ("window_s", Number),
                ("connections_by_cluster", Counts),
            ],
        ),
        ("gateway_rtt_high", &[("rtt_ms", Number)]),
        ("gateway_flapping", &[("reconnects", Count), ("window_s", Number)]),
        ("gateway_tls_expiring", &[("not_after", Time)]),
        ("route_mesh_incomplete", &[("missing_peers", Names)]),
    ]
};

/// What stands under a key of evidence.
#[derive(Clone, Copy, Debug)]
pub(super) enum Holds {
    /// A whole number.
    Count,
    /// A number.
    Number,
    /// A number, or null where it is not known.
    AnyNumber,
    /// Names; the last may be a count of those left out.
    Names,
    /// Numbers by name.
    Counts,
    /// True, false, or null where it is not known.
    YesOrNo,
    /// A text, or null.
    Text,
    /// A point in time, or null where there is none.
    Time,
    /// `key`, `majority`, `server`.
    Differences,
}

impl Holds {
    fn schema(self) -> Value {
        match self {
            Self::Count => json!({"type": "integer", "minimum": 0}),
            Self::Number => json!({"type": "number", "minimum": 0}),
            Self::AnyNumber => json!({"type": ["number", "null"]}),
            Self::Names => json!({"type": "array", "items": {"type": "string"}}),
            Self::Counts => json!({"type": "object", "additionalProperties": {"type": "number"}}),
            Self::YesOrNo => json!({"type": ["boolean", "null"]}),
            Self::Text => json!({"type": ["string", "null"]}),
            Self::Time => json!({"type": ["string", "null"], "format": "date-time"}),
            Self::Differences => json!({"type": "array", "items": {
                "type": "object",
                "required": ["key", "majority", "server"],
                "properties": {"key": {"type": "string"}},
            }}),
        }
    }
}

/// The schema of the message of this type, as it ought to be shipped.
pub(super) fn generate(name: &str) -> Value {
    let schema = match name {
        "io.nats.gatewatch.advisory.v1.finding" => with_evidence(of::<FindingEvent<'_>>()),
        "io.nats.gatewatch.advisory.v1.agent" => of::<AgentMessage<'_>>(),
        "io.nats.gatewatch.metric.v1.epoch" => of::<EpochMessage<'_>>(),
        "io.nats.gatewatch.snapshot.v1" => of::<Written<'_>>(),
        other => panic!("tell here from which type the schema of {other} comes"),
    };
    let Value::Object(body) = schema else { panic!("a schema is an object") };
    let path = name.strip_prefix("io.nats.").expect("each type is one of NATS").replace('.', "/");
    let mut out = Map::new();
    out.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    out.insert("$id".to_owned(), json!(format!("https://nats.io/schemas/{path}.json")));
    out.insert("title".to_owned(), json!(name));
    out.extend(body.into_iter().filter(|(key, _)| !["$schema", "title"].contains(&&**key)));
    Value::Object(out)
}

fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().for_serialize().with(|s| {
        s.inline_subschemas = true;
        s.transforms.push(Box::new(transform::RecursiveTransform(plain)));
    });
    serde_json::to_value(settings.into_generator().into_root_schema_for::<T>()).expect("a schema is JSON")
}

/// Formats that draft-07 does not know go, and one word of several is one enumeration.
fn plain(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if object.get("format").is_some_and(|format| format != "date-time") {
        object.remove("format");
    }
    let words = |key: &str| -> Option<Vec<Value>> {
        let all = object.get(key)?.as_array()?;
        let words = |one: &Value| match (one.get("const"), one.get("enum")) {
            (Some(word), _) => Some(vec![word.clone()]),
            (None, Some(words)) => words.as_array().cloned(),
            (None, None) => None,
        };
        all.iter().map(words).collect::<Option<Vec<_>>>().map(|all| all.concat())
    };
    if let Some(words) = words("oneOf") {
        object.remove("oneOf");
        object.insert("type".to_owned(), json!("string"));
        object.insert("enum".to_owned(), Value::Array(words));
    }
}

/// The keys of the contract are there for their check, unless the event was too large and says so.
fn with_evidence(mut schema: Value) -> Value {
    let rules = EVIDENCE.iter().map(|(check, keys)| {
        let required: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
        let properties: Map<String, Value> =
            keys.iter().map(|(key, holds)| ((*key).to_owned(), holds.schema())).collect();
        json!({
            "if": {"properties": {"check": {"const": check}}},
            "then": {"properties": {"evidence": {"anyOf": [
                {"required": required, "properties": properties},
                {"required": ["left_out_bytes"], "properties": {"left_out_bytes": {"type": "integer"}}},
            ]}}},
        })
    });
    schema["allOf"] = Value::Array(rules.collect());
    // Agents of one version talk by it; nobody else may rely on it.
    schema["required"].as_array_mut().expect("a list").retain(|key| key != "ledger");
    schema
}
