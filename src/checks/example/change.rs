//! Changes of a server that are no fault of the network.

use super::{GatewayConfig, Name, World};

impl World {
    /// Its configuration changes without a restart, as for new certificate files.
    pub(crate) fn reload(&mut self, server: &str, change: impl FnOnce(&mut Option<GatewayConfig>)) {
        change(&mut self.node(server).gateway);
    }

    /// A restart with another nats-server.
    pub(crate) fn upgrade(&mut self, server: &str, ver: &str) {
        self.restart(server);
        self.node(server).ver = ver.into();
    }

    /// A restart with another name. The test goes on calling it `server`.
    pub(crate) fn rename(&mut self, server: &str, name: &str) {
        self.restart(server);
        self.node(server).called = Name::from(name);
    }

    /// This way is open again.
    pub(crate) fn allow(&mut self, server: &str, remote: &str) {
        self.refusals.remove(&(server.into(), remote.into()));
    }
}
