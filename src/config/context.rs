//! The contexts of the `nats` CLI: files that hold an address and credentials under a name (ADR-21).

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Complaint, ConfigError, Environment, Layer, Mistake, Mistakes, reader, redact};

/// The keys of a context file that we use, or that we must not silently ignore. Others are ignored.
#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    url: String,
    user: String,
    password: String,
    token: String,
    creds: String,
    nkey: String,
    cert: String,
    key: String,
    ca: String,
    nsc: String,
    user_jwt: String,
    socks_proxy: String,
    inbox_prefix: String,
    tls_first: bool,
}

/// The name of the context that `nats context select` chose.
pub(super) fn selected(env: &Environment<'_>) -> Option<String> {
    let text = std::fs::read_to_string(directory(env)?.join("context.txt")).ok()?;
    let name = text.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// What the context `name` says. As the `nats` CLI has it, `name` may also be the path of a `.json` file.
pub(super) fn load(name: &str, env: &Environment<'_>) -> Result<Layer, ConfigError> {
    let path = find(name, env)?;
    let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read {
        what: "the context",
        path: path.clone(),
        source,
    })?;
    // Not serde's own words: they may quote a value, and a value may be a secret.
    let file: File = serde_json::from_str(&text).map_err(|e| {
        let line = text.lines().nth(e.line().saturating_sub(1)).unwrap_or_default();
        let kind =
            if e.is_data() { "a value is not of the type that it should be" } else { "this is not JSON" };
        let what = format!("context `{}` is not valid: {kind}", redact::control(name));
        let help = format!("`nats context edit {}` opens it", redact::control(name));
        let place = (e.line(), e.column().saturating_sub(1));
        let mistake = Mistake::in_file(Complaint::new(what, help), &path, place, redact::json_line(line), 1);
        ConfigError::File(Mistakes(vec![mistake]))
    })?;
    for (key, value) in [("nsc", &file.nsc), ("user_jwt", &file.user_jwt), ("socks_proxy", &file.socks_proxy)]
    {
        if !value.is_empty() {
            return Err(ConfigError::ContextKey { name: name.to_owned(), path, key });
        }
    }
    let text = |s: String| (!s.is_empty()).then_some(s);
    let path = |s: String| (!s.is_empty()).then(|| env.expand(Path::new(&s)));
    Ok(Layer {
        origin: format!("context {name}"),
        server: text(file.url),
        creds: path(file.creds),
        nkey: path(file.nkey),
        user: text(file.user),
        password: text(file.password),
        token: text(file.token),
        tls_ca: path(file.ca),
        tls_cert: path(file.cert),
        tls_key: path(file.key),
        tls_first: file.tls_first.then_some(true),
        inbox_prefix: text(file.inbox_prefix),
        context: None,
    })
}

fn find(name: &str, env: &Environment<'_>) -> Result<PathBuf, ConfigError> {
    let as_path = env.expand(Path::new(name));
    if as_path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) && as_path.is_file() {
        return Ok(as_path);
    }
    let directory = directory(env).map(|d| d.join("context"));
    // A name is a file's name, never a way out of the directory.
    let valid = !name.is_empty() && !name.contains("..") && !name.contains(['/', '\\']);
    match directory.as_ref().map(|d| d.join(format!("{name}.json"))) {
        Some(path) if valid && path.is_file() => Ok(path),
        _ => {
            let known = directory.as_deref().map(names).unwrap_or_default();
            let near = reader::nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
            Err(ConfigError::NoContext { name: name.to_owned(), directory, known, near })
        }
    }
}

fn directory(env: &Environment<'_>) -> Option<PathBuf> {
    env.get("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| env.home().map(|h| h.join(".config")))
        .map(|d| d.join("nats"))
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .filter_map(|p| p.file_stem().map(|s| s.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names
}
