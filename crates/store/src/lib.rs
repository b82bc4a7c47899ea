//! Files by address: local paths, `hf://`, `s3://`, `gs://`, `http(s)://`. Must not know what is in them.
//!
//! A [`Store`] opens, lists and writes what an [`Address`] names. Its interface is synchronous; a small runtime for
//! the network lives inside. Without the cargo feature `network` only local paths work, and a URL is a clear error.

mod address;
mod error;
mod glob;
mod local;
#[cfg(feature = "network")]
mod network;
mod read_at;
mod settings;
mod store;
mod writer;

pub use address::Address;
pub use error::{Error, Remote, Why, without_login};
pub use read_at::ReadAt;
pub use settings::{Environment, Settings};
pub use store::{Entry, Store};
pub use writer::Writer;

/// What the fuzz target runs: an address from anywhere parses or is refused, and what parses is written and read
/// back as itself; what the network's servers say about names, ranges and pages is read without a panic.
#[doc(hidden)]
pub fn fuzz_address(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (first, second) = text.split_once('\n').unwrap_or((&text, ""));
    if let Ok(address) = first.parse::<Address>() {
        assert_eq!(address.to_string().parse::<Address>().ok().as_ref(), Some(&address), "{first:?}");
        let _ = (address.shown(), address.file_name());
        if let Ok(joined) = address.join(second) {
            assert_eq!(joined.to_string().parse::<Address>().ok(), Some(joined), "{first:?} + {second:?}");
        }
    }
    let _ = glob::Glob::new(first).matches(second);
    #[cfg(feature = "network")]
    network::fuzz_answers(first, second);
}
