//! The hash by which contents of files are compared.

use std::io::{self, Read};

use xxhash_rust::xxh3::Xxh3;

/// XXH3 (128 bit) of all bytes to the end, in little memory.
///
/// # Errors
///
/// If they cannot be read.
pub fn hash_of(mut bytes: impl Read) -> io::Result<u128> {
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match bytes.read(&mut buffer)? {
            0 => return Ok(hash.digest128()),
            count => hash.update(&buffer[..count]),
        }
    }
}
