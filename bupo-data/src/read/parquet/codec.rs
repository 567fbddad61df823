//! Decompression to exactly the size a page claims.

use std::io::Read;

use super::fault::{Decoded, Fault, damaged, unsupported};

/// How the pages of a column are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    None,
    Snappy,
    Gzip,
    Zstd,
}

impl Codec {
    pub(super) fn of(code: i64) -> Decoded<Self> {
        match code {
            0 => Ok(Self::None),
            1 => Ok(Self::Snappy),
            2 => Ok(Self::Gzip),
            6 => Ok(Self::Zstd),
            3 => unsupported("LZO compression"),
            4 => unsupported("Brotli compression"),
            5 | 7 => unsupported("LZ4 compression"),
            _ => damaged(format!("it has the unknown compression {code}")),
        }
    }

    /// Decompresses into `size` bytes; any other size is a fault.
    pub(super) fn decompress(self, compressed: &[u8], size: usize) -> Decoded<Vec<u8>> {
        // Writers leave out what compresses nothing.
        if size == 0 {
            return Ok(Vec::new());
        }
        let decompressed = match self {
            Self::None => compressed.to_vec(),
            Self::Snappy => unsnap(compressed, size)?,
            Self::Gzip => gunzip(compressed, size)?,
            Self::Zstd => zstd::bulk::decompress(compressed, size).map_err(|error| fault("zstd", error))?,
        };
        match decompressed.len() {
            length if length == size => Ok(decompressed),
            length => damaged(format!("a page of {size} bytes has {length}")),
        }
    }
}

fn unsnap(compressed: &[u8], size: usize) -> Decoded<Vec<u8>> {
    match snap::raw::decompress_len(compressed) {
        Ok(length) if length == size => {
            snap::raw::Decoder::new().decompress_vec(compressed).map_err(|error| fault("snappy", error))
        }
        Ok(length) => damaged(format!("a page of {size} bytes has {length}")),
        Err(error) => Err(fault("snappy", error)),
    }
}

/// Stops a byte after the claimed size, however much more there is.
fn gunzip(compressed: &[u8], size: usize) -> Decoded<Vec<u8>> {
    let mut decompressed = Vec::new();
    let mut stream = flate2::read::MultiGzDecoder::new(compressed).take(size as u64 + 1);
    stream.read_to_end(&mut decompressed).map_err(|error| fault("gzip", error))?;
    Ok(decompressed)
}

fn fault(codec: &str, error: impl std::fmt::Display) -> Fault {
    Fault::Damaged(format!("a page does not decompress: {codec}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn compressed(codec: Codec, bytes: &[u8]) -> Vec<u8> {
        match codec {
            Codec::None => bytes.to_vec(),
            Codec::Snappy => snap::raw::Encoder::new().compress_vec(bytes).unwrap(),
            Codec::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Codec::Zstd => zstd::bulk::compress(bytes, 3).unwrap(),
        }
    }

    #[test]
    fn decompresses_to_the_claimed_size_only() {
        let bytes = vec![7; 100_000];
        for codec in [Codec::None, Codec::Snappy, Codec::Gzip, Codec::Zstd] {
            let compressed = compressed(codec, &bytes);
            assert_eq!(codec.decompress(&compressed, bytes.len()).unwrap(), bytes, "{codec:?}");
            for size in [1, 99_999, 100_001, 1 << 20] {
                assert!(codec.decompress(&compressed, size).is_err(), "{codec:?} {size}");
            }
            if codec != Codec::None {
                assert!(codec.decompress(&compressed[..compressed.len() / 2], bytes.len()).is_err(), "{codec:?}");
                assert!(codec.decompress(b"not compressed", bytes.len()).is_err(), "{codec:?}");
            }
            assert_eq!(codec.decompress(&[], 0).unwrap(), [0_u8; 0]);
        }
    }

    #[test]
    fn other_codecs_are_named() {
        for (code, name) in [(3, "LZO"), (4, "Brotli"), (5, "LZ4"), (7, "LZ4")] {
            assert!(matches!(Codec::of(code), Err(Fault::Unsupported(what)) if what.contains(name)));
        }
        assert!(matches!(Codec::of(8), Err(Fault::Damaged(_))));
    }
}
