//! Compressing as the servers do: snappy's framing format.

use std::io::Write as _;

use snap::write::FrameEncoder;

/// What a stream begins with.
const HEAD: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// Compresses one body after the other with the same tables.
pub(super) struct Packer {
    encoder: FrameEncoder<Vec<u8>>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

impl Default for Packer {
    fn default() -> Self {
        Self { encoder: FrameEncoder::new(Vec::new()) }
    }
}

impl Packer {
    /// The frames of one body.
    pub(super) fn pack(&mut self, body: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(HEAD);
        out.extend_from_slice(self.frames(body));
    }

    /// The frames of a part of a body, which may stand between those of others.
    pub(super) fn frames(&mut self, body: &[u8]) -> &[u8] {
        self.encoder.get_mut().clear();
        // Writing to memory cannot fail.
        let written = self.encoder.write_all(body).and_then(|()| self.encoder.flush());
        debug_assert!(written.is_ok());
        let frames = self.encoder.get_ref();
        frames.strip_prefix(HEAD).unwrap_or(frames)
    }
}
