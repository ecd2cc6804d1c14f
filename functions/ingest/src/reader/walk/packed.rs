//! Text that is not JSON but packs it: base64 of gzip, as the payload of a CloudWatch Logs subscription is copied
//! out of its wrapping, on one line or broken over many.

use base64::Engine as _;

use super::super::ReadError;
use super::super::unwrap::{GZIP_BASE64, Out, Wrapped};
use super::{ENVELOPE_BYTES, Walker};

/// Shorter text is no payload: gzip of nothing has this many characters.
const SHORTEST: usize = 28;

impl Walker<'_> {
    /// Reads such a payload where a value could stand: `true` when there was one, which is then read. Otherwise
    /// nothing is consumed.
    pub(super) fn packed(&mut self, out: &mut Out<'_>) -> Result<bool, ReadError> {
        let position = self.here();
        self.window.hold();
        let found = self.packed_text()?;
        self.window.release();
        let from = self.window.pos();
        let Some(length) = found else { return Ok(false) };
        let text: Vec<u8> =
            self.window.held()[from..from + length].iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
        let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(text) else { return Ok(false) };
        let envelope = self.context().envelope;
        out.wrapped.push(Wrapped { bytes, envelope, position });
        self.window.seek(from + length);
        self.told.now_json(out.sink);
        Ok(true)
    }

    /// How long the payload at the current place is. The window must be held.
    fn packed_text(&mut self) -> Result<Option<usize>, ReadError> {
        let cap = self.limits.record_bytes + ENVELOPE_BYTES;
        let head = GZIP_BASE64.as_bytes();
        let mut end = 0;
        loop {
            let from = self.window.pos();
            let text = &self.window.held()[from..];
            if !text.starts_with(&head[..head.len().min(text.len())]) {
                return Ok(None);
            }
            while let Some(byte) = text.get(end) {
                // The next payload begins on a line of its own.
                let next_begins = end > 0 && text[end - 1] == b'\n' && text[end..].starts_with(head);
                let goes_on = byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'\r' | b'\n');
                let undecided = end > 0 && text[end - 1] == b'\n' && text.len() - end < head.len();
                if undecided {
                    break;
                }
                if !goes_on || next_begins {
                    let whole_lines = text[end - 1] == b'\n' || byte.is_ascii_whitespace();
                    return Ok(Some(end).filter(|end| whole_lines && *end >= SHORTEST));
                }
                end += 1;
            }
            if end > cap {
                return Ok(None);
            }
            if !self.window.more()? {
                let from = self.window.pos();
                let length = self.window.held().len() - from;
                return Ok(Some(length).filter(|l| *l >= SHORTEST));
            }
        }
    }
}
