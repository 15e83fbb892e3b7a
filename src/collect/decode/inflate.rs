//! The snappy framing of compressed answers.

use std::io::{ErrorKind, Read};

use snap::read::FrameDecoder;

use super::{DecodeError, REPLY_BYTES_MAX, clip};

/// Inflates one answer after the other into the same memory.
#[derive(Debug, Default)]
pub(super) struct Inflater {
    frames: Option<FrameDecoder<Wire>>,
    /// Longer than what was inflated last: to make room costs more than to inflate.
    room: Vec<u8>,
}

impl Inflater {
    /// Memory beyond this is given back after each answer.
    const KEPT_BYTES_MAX: usize = 1 << 20;
    const FIRST_BYTES: usize = 1 << 14;
    /// The chunk type that opens a stream. A decoder that has read one stream does not ask for it again.
    const STREAM: u8 = 0xff;

    pub(super) fn inflate(&mut self, payload: &[u8]) -> Result<&[u8], DecodeError> {
        // One that failed is not used again: what it has read and not given would stand before the next answer.
        let mut frames = match self.frames.take() {
            Some(frames) if payload.first() == Some(&Self::STREAM) => frames,
            _ => FrameDecoder::new(Wire::default()),
        };
        frames.get_mut().load(payload);
        if self.room.len() > Self::KEPT_BYTES_MAX {
            self.room = Vec::new();
        }
        let mut filled = 0;
        loop {
            if filled == self.room.len() {
                self.room.resize((filled * 2).clamp(Self::FIRST_BYTES, REPLY_BYTES_MAX + 1), 0);
            }
            let free = self.room.get_mut(filled..).unwrap_or_default();
            match frames.read(free) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(DecodeError::Inflate(clip(&e.to_string()))),
            }
            if filled > REPLY_BYTES_MAX {
                return Err(DecodeError::TooLarge { bytes: filled });
            }
        }
        frames.get_mut().give_back();
        self.frames = Some(frames);
        Ok(self.room.get(..filled).unwrap_or_default())
    }
}

/// What came over the wire: the decoder keeps its reader, so it cannot borrow it.
#[derive(Debug, Default)]
struct Wire {
    bytes: Vec<u8>,
    read: usize,
}

impl Wire {
    fn load(&mut self, payload: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(payload);
        self.read = 0;
    }

    fn give_back(&mut self) {
        if self.bytes.capacity() > Inflater::KEPT_BYTES_MAX {
            *self = Self::default();
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let read = self.bytes.get(self.read..).unwrap_or_default().read(buf)?;
        self.read += read;
        Ok(read)
    }
}
