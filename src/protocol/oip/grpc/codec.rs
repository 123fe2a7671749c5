//! Messages as Prost reads and writes them, large ones without holding up the other calls of the thread.

use prost::Message;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic_prost::ProstCodec;

/// Bytes of a message that is read or written in well under a millisecond, whatever it says.
const SMALL: usize = 64 << 10;

/// Named in the generated services.
#[derive(Debug)]
pub(crate) struct MessageCodec<T, U>(ProstCodec<T, U>);

impl<T, U> Default for MessageCodec<T, U> {
    fn default() -> Self {
        Self(ProstCodec::new())
    }
}

impl<T, U> Codec for MessageCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Offloaded<<ProstCodec<T, U> as Codec>::Encoder>;
    type Decoder = Offloaded<<ProstCodec<T, U> as Codec>::Decoder>;

    fn encoder(&mut self) -> Self::Encoder {
        Offloaded(self.0.encoder())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Offloaded(self.0.decoder())
    }
}

/// A coder that gives the other tasks of its thread to another one while it works on a large message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Offloaded<C>(C);

impl<C> Encoder for Offloaded<C>
where
    C: Encoder<Item: Message, Error = Status>,
{
    type Item = C::Item;
    type Error = Status;

    fn encode(&mut self, item: Self::Item, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        aside(item.encoded_len(), || self.0.encode(item, buf))
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

impl<C> Decoder for Offloaded<C>
where
    C: Decoder<Error = Status>,
{
    type Item = C::Item;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<C::Item>, Status> {
        use bytes::Buf as _;
        aside(buf.remaining(), || self.0.decode(buf))
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

fn aside<R>(bytes: usize, work: impl FnOnce() -> R) -> R {
    // The event loops of HTTP, which write answers of a shared port, have no other thread to give tasks to.
    let has_others = || {
        Handle::try_current()
            .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
    };
    if bytes > SMALL && has_others() {
        block_in_place(work)
    } else {
        work()
    }
}
