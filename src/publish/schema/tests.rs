//! The shipped schemas are those of the types, they change only as readers can bear it, and what is said fits them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::checks::example::{World, secs};
use crate::findings::Change;
use crate::model::Snapshot;
use crate::publish::event::{self, EpochCost, Sight, Style};

use super::compare::breaks;
use super::generate::{EVIDENCE, generate};
use super::*;

static VALIDATORS: LazyLock<BTreeMap<&'static str, Validator>> = LazyLock::new(|| {
    let validator = |schema: &Schema| {
        let text: Value = serde_json::from_str(schema.text).unwrap();
        jsonschema::options().should_validate_formats(true).build(&text).unwrap()
    };
    SCHEMAS.iter().map(|schema| (schema.name, validator(schema))).collect()
});

/// Fails where `message`, which says its type, is not as the shipped schema of that type has it.
pub(crate) fn assert_valid(message: &str) {
    let message: Value = serde_json::from_str(message).unwrap();
    let kind = message["type"].as_str().expect("it says its type");
    let validator = VALIDATORS.get(kind).unwrap_or_else(|| panic!("there is no schema of {kind}"));
    let odd: Vec<String> =
        validator.iter_errors(&message).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(odd.is_empty(), "{odd:#?}\n{message:#}");
}

/// What an agent says when this changed is as the shipped schemas have it.
pub(crate) fn assert_said_as_shipped(snapshot: &Snapshot, changes: &[Change]) {
    let style = Style { prefix: "gatewatch".into(), ..Style::default() };
    let sight = Sight::of(snapshot);
    for change in changes {
        assert_valid(&event::finding(change, &sight, &style, "ID").payload);
        let cost = EpochCost { started_at: snapshot.began_at, ..EpochCost::default() };
        assert_valid(
            &event::epoch(snapshot, &sight, cost, event::Standing::default(), &style, "ID", snapshot.at)
                .payload,
        );
    }
}

#[test]
fn the_shipped_schemas_are_those_of_the_types() {
    let write = std::env::var_os("GATEWATCH_SCHEMAS").is_some_and(|v| v == "write");
    for schema in SCHEMAS {
        let shipped: Value = serde_json::from_str(schema.text).unwrap();
        let generated = generate(schema.name);
        let broken = breaks(&shipped, &generated);
        assert!(
            broken.is_empty(),
            "{} changes in a way that its readers cannot bear; fields are only ever added, so leave what is there \
             and add beside it:\n  {}",
            schema.file,
            broken.join("\n  ")
        );
        let text = format!("{generated:#}\n");
        if write {
            std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(schema.file), text).unwrap();
        } else {
            assert!(
                text == schema.text,
                "{} is not what the types say; write it anew with\n  \
                 GATEWATCH_SCHEMAS=write cargo test --lib schema\nand commit it",
                schema.file
            );
        }
    }
}

#[test]
fn a_schema_is_found_by_either_name_and_says_which_it_is() {
    for schema in SCHEMAS {
        for name in [schema.name, schema.short] {
            assert_eq!(find(name).map(|found| found.name), Some(schema.name));
        }
        let text: Value = serde_json::from_str(schema.text).unwrap();
        assert_eq!(text["title"], schema.name);
        assert_eq!(text["properties"]["type"]["const"], schema.name);
        assert_eq!(text["$schema"], "http://json-schema.org/draft-07/schema#");
        let path = schema.file.strip_prefix("schemas/io/nats/").unwrap();
        assert_eq!(text["$id"], format!("https://nats.io/schemas/{path}"));
        jsonschema::draft7::meta::validate(&text).unwrap();
    }
    assert!(find("findings").is_none());
}

#[test]
fn the_evidence_that_is_named_is_that_of_checks_that_are_there() {
    for (check, keys) in EVIDENCE {
        assert!(crate::checks::find(check).is_some(), "{check}");
        assert!(!keys.is_empty());
    }
}

/// What stands in a schema of the kind that is generated, with one thing of each sort.
fn sample() -> Value {
    json!({
        "type": "object",
        "required": ["a", "n"],
        "properties": {
            "a": {"type": "string", "enum": ["x", "y"]},
            "n": {"type": ["integer", "null"], "minimum": 0},
            "f": {"type": "number"},
            "t": {"type": "string", "format": "date-time"},
            "k": {"type": "string", "const": "v1"},
            "l": {"type": "array", "items": {"type": "object", "required": ["i"], "properties": {"i": {"type": "string"}}}},
            "m": {"type": "object", "additionalProperties": {"type": "integer"}},
            "o": {"anyOf": [{"type": "object", "required": ["z"]}, {"type": "null"}]},
        },
        "allOf": [{"if": {"properties": {"a": {"const": "x"}}}, "then": {"properties": {"f": {"required": ["g"]}}}}],
    })
}

type Edit<'a> = Box<dyn Fn(&mut Value) + 'a>;

#[test]
fn a_change_that_a_reader_cannot_bear_is_told() {
    let remove = |schema: &mut Value, at: &str, key: &str| {
        schema.pointer_mut(at).unwrap().as_object_mut().unwrap().remove(key).unwrap();
    };
    let set = |at: &'static str, value: Value| -> Edit<'_> {
        Box::new(move |schema| *schema.pointer_mut(at).unwrap() = value.clone())
    };
    let gone = |at: &'static str, key: &'static str| -> Edit<'_> { Box::new(move |s| remove(s, at, key)) };
    let cases: Vec<(&str, Edit<'_>)> = vec![
        ("/: `n` was always there", set("/required", json!(["a"]))),
        ("/f: is gone", gone("/properties", "f")),
        ("/f: may be string", set("/properties/f/type", json!("string"))),
        ("/f: may be null", set("/properties/f/type", json!(["number", "null"]))),
        ("/n: may be number", set("/properties/n/type", json!("number"))),
        ("/f: had a type and may be anything", gone("/properties/f", "type")),
        ("/n: was never less than 0", set("/properties/n/minimum", json!(-1))),
        ("/n: was never less than 0", gone("/properties/n", "minimum")),
        ("/a: lost \"y\"", set("/properties/a/enum", json!(["x", "z"]))),
        ("/a: was an enumeration", gone("/properties/a", "enum")),
        ("/t: format was \"date-time\"", gone("/properties/t", "format")),
        ("/k: const was \"v1\"", set("/properties/k/const", json!("v2"))),
        ("/l[]: `i` was always there", set("/properties/l/items/required", json!([]))),
        ("/l[]/i: may be integer", set("/properties/l/items/properties/i/type", json!("integer"))),
        ("/l[]: had a type", gone("/properties/l", "items")),
        ("/m{}: may be string", set("/properties/m/additionalProperties/type", json!("string"))),
        ("/o: one of several: /: `z` was always there", set("/properties/o/anyOf/0/required", json!([]))),
        ("/o: one of several", set("/properties/o/anyOf/1/type", json!("string"))),
        ("the rule where", set("/allOf", json!([]))),
        ("/f: `g` was always there", set("/allOf/0/then/properties/f/required", json!([]))),
    ];
    assert_eq!(breaks(&sample(), &sample()), [""; 0]);
    for (told, edit) in cases {
        let mut new = sample();
        edit(&mut new);
        let found = breaks(&sample(), &new);
        assert!(found.iter().any(|what| what.contains(told)), "{found:?} does not say {told:?}");
    }
}

#[test]
fn a_change_that_only_adds_is_allowed() {
    let mut new = sample();
    new["required"] = json!(["a", "n", "f", "new"]);
    new["properties"]["new"] = json!({"type": "string"});
    new["properties"]["a"]["enum"] = json!(["x", "y", "z"]);
    new["properties"]["n"]["type"] = json!("integer");
    new["properties"]["f"]["type"] = json!("integer");
    new["properties"]["o"] = json!({"type": "object", "required": ["z"]});
    new["description"] = json!("words are free");
    assert_eq!(breaks(&sample(), &new), [""; 0]);
}

#[test]
fn what_is_not_as_the_contract_has_it_does_not_fit() {
    let mut world = World::seen_from("eu-0");
    world.cut("us-1", "ap");
    world.run(secs(5));
    let change = world.published.first().expect("it opens");
    let style = Style { prefix: "gatewatch".into(), ..Style::default() };
    let finding = event::finding(change, &Sight::of(world.view()), &style, "ID").payload;
    let snapshot = world.view().to_file().unwrap();
    let cases: [(&str, &str, Value); 11] = [
        (&snapshot, "/snapshot/epoch", json!("1")),
        (&finding, "/type", json!("io.nats.gatewatch.advisory.v1.agent")),
        (&finding, "/timestamp", json!("yesterday")),
        (&finding, "/action", json!("closed")),
        (&finding, "/severity", json!("fatal")),
        (&finding, "/fingerprint", json!("0123")),
        (&finding, "/revision", json!(0)),
        (&finding, "/entity", json!({})),
        (&finding, "/evidence", json!([])),
        (&finding, "/evidence", json!({"absent_ms": 1})),
        (&finding, "/evidence/peers_connected", json!("us-0")),
    ];
    for (message, at, wrong) in cases {
        assert_valid(message);
        let mut odd: Value = serde_json::from_str(message).unwrap();
        let validator = &VALIDATORS[odd["type"].as_str().unwrap()];
        *odd.pointer_mut(at).unwrap() = wrong;
        assert!(!validator.is_valid(&odd), "{at} may not be {}", odd.pointer(at).unwrap());
    }
}
