//! A gateway block as a nats-server's configuration takes it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::model::{GatewayConfig, Name, Snapshot};

/// How many URLs of one remote a block lists.
pub(super) const URLS_MAX: usize = 16;

/// `config` as text. Servers tell neither the files of TLS nor passwords; comments stand in their places.
pub(super) fn block(config: &GatewayConfig) -> String {
    let mut block = String::new();
    let host = config.host.as_deref().unwrap_or("0.0.0.0");
    let _ = writeln!(block, "gateway {{");
    let _ = writeln!(block, "  name: {}", quoted(&config.name));
    let _ = writeln!(block, "  listen: {}", quoted(&address(host, config.port.unwrap_or(7222))));
    if let Some(advertise) = &config.advertise {
        let _ = writeln!(block, "  advertise: {}", quoted(advertise));
    }
    if config.reject_unknown {
        let _ = writeln!(block, "  reject_unknown_cluster: true");
    }
    if config.connect_retries > 0 {
        let _ = writeln!(block, "  connect_retries: {}", config.connect_retries);
    }
    if config.tls_required {
        let _ = writeln!(block, "  # tls: as its peers have it; servers do not tell the files");
    }
    let _ = writeln!(block, "  # authorization, and user and password in the URLs: as its peers have them");
    let _ = writeln!(block, "  gateways: [");
    for (remote, listed) in config.remotes.iter() {
        let urls: Vec<String> =
            listed.iter().take(URLS_MAX).map(|url| quoted(&format!("nats://{url}"))).collect();
        let _ = writeln!(block, "    {{ name: {}, urls: [{}] }}", quoted(remote), urls.join(", "));
    }
    let _ = writeln!(block, "  ]");
    block.push('}');
    block
}

/// Where the servers of `cluster` tell that their gateways listen.
pub(super) fn told(snapshot: &Snapshot, cluster: &str) -> BTreeSet<Name> {
    let gateways = snapshot.servers_of(cluster).filter_map(|s| s.gatewayz.as_ref());
    gateways.filter_map(|g| Some(Name::from(address(g.host.as_ref()?, g.port?)))).collect()
}

pub(super) fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A string as a nats-server configuration takes it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars().take(256) {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push('_'),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_out_of_the_block() {
        assert_eq!(quoted("a\"b\\c\nd"), "\"a\\\"b\\\\c_d\"");
        assert_eq!(address("::1", 7222), "[::1]:7222");
    }
}
