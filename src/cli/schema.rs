//! `gatewatch schema`: the JSON Schema of each message.

use super::Failure;
use super::output::print;
use crate::config::{Complaint, nearest, redact};
use crate::publish::schema::{SCHEMAS, find};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The message's type, or its short name; without one, the list
    name: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let Some(name) = &args.name else {
        let wide = SCHEMAS.iter().map(|schema| schema.short.len()).max().unwrap_or(0);
        let wider = SCHEMAS.iter().map(|schema| schema.name.len()).max().unwrap_or(0);
        let row = |[short, name, about]: [&str; 3]| format!("{short:wide$}  {name:wider$}  {about}\n");
        let rows = SCHEMAS.iter().map(|schema| [schema.short, schema.name, schema.about]);
        return Ok(print(&std::iter::once(["NAME", "TYPE", "OF"]).chain(rows).map(row).collect::<String>())?);
    };
    let Some(schema) = find(name) else {
        let names = SCHEMAS.iter().flat_map(|schema| [schema.short, schema.name]);
        let hint = match nearest(name, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`gatewatch schema` lists them".to_owned(),
        };
        let message = format!("there is no message `{}`", redact::control(name));
        return Err(Failure::word(Complaint::new(message, hint), "", name));
    };
    Ok(print(schema.text)?)
}
