//! Changes of a server that are no fault of the network.

use super::{GatewayConfig, World};

impl World {
    /// Its configuration changes without a restart, as for new certificate files.
    pub(crate) fn reload(&mut self, server: &str, change: impl FnOnce(&mut Option<GatewayConfig>)) {
        change(&mut self.node(server).gateway);
    }
}
