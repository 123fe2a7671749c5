//! A file as a prost buffer: what prost skips is never read, so that weights cost neither time nor memory.

use std::io::{self, Read, Seek, SeekFrom};

use bytes::Buf;

/// Bytes held at a time.
const CHUNK: usize = 64 * 1024;

/// A seekable reader as a [`Buf`]. After an I/O error it yields zeros, which no protobuf message accepts; the error
/// waits in [`FileBuf::take_error`].
#[derive(Debug)]
pub(crate) struct FileBuf<R> {
    reader: R,
    chunk: Vec<u8>,
    position: usize,
    /// Bytes of the file after `chunk`.
    behind: u64,
    error: Option<io::Error>,
}

impl<R: Read + Seek> FileBuf<R> {
    /// A buffer over the first `length` bytes of `reader`, which stands at its beginning.
    pub(crate) fn new(reader: R, length: u64) -> Self {
        let mut buf = Self {
            reader,
            chunk: Vec::new(),
            position: 0,
            behind: length,
            error: None,
        };
        buf.refill(0);
        buf
    }

    /// The first I/O error, if any.
    pub(crate) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    fn refill(&mut self, skip: u64) {
        self.behind -= skip;
        let size = usize::try_from(self.behind).unwrap_or(CHUNK).min(CHUNK);
        self.chunk.clear();
        self.chunk.resize(size, 0);
        self.position = 0;
        self.behind -= size as u64;
        if self.error.is_none()
            && size > 0
            && let Err(error) = self.read(skip)
        {
            self.chunk.fill(0);
            self.error = Some(error);
        }
    }

    fn read(&mut self, skip: u64) -> io::Result<()> {
        if skip > 0 {
            let skip = i64::try_from(skip).map_err(io::Error::other)?;
            self.reader.seek(SeekFrom::Current(skip))?;
        }
        self.reader.read_exact(&mut self.chunk)
    }
}

impl<R: Read + Seek> Buf for FileBuf<R> {
    fn remaining(&self) -> usize {
        let held = self.chunk.len() - self.position;
        usize::try_from(self.behind).map_or(usize::MAX, |behind| behind.saturating_add(held))
    }

    fn chunk(&self) -> &[u8] {
        &self.chunk[self.position..]
    }

    fn advance(&mut self, count: usize) {
        let held = self.chunk.len() - self.position;
        if count < held {
            self.position += count;
        } else {
            // `Buf` forbids advancing past the end; a caller that does so all the same stops there.
            self.refill(((count - held) as u64).min(self.behind));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn reads_and_skips_like_a_slice() {
        let bytes: Vec<u8> = (0..200_000u32).map(|index| (index % 251) as u8).collect();
        let mut file = FileBuf::new(Cursor::new(&bytes), bytes.len() as u64);
        let mut slice = bytes.as_slice();
        for count in [1, CHUNK - 1, 1, 10, 100_000, 7] {
            assert_eq!(file.remaining(), slice.remaining());
            assert_eq!(file.chunk()[0], slice.chunk()[0]);
            file.advance(count);
            slice.advance(count);
        }
        assert_eq!(file.copy_to_bytes(slice.remaining()), slice);
        assert!(!file.has_remaining());
        assert!(file.take_error().is_none());
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_read_is_an_error() {
        let mut file = FileBuf::new(Cursor::new([1u8; 10]), 20);
        assert_eq!(file.get_u8(), 0);
        assert!(file.take_error().is_some());
    }
}
