//! Bodies as servers send them, unpacked while they arrive and never larger than allowed: a
//! few bytes can unpack to any number.

use std::io::Write;

use flate2::write::GzDecoder;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use thiserror::Error;
use zstd::stream::raw::{DParameter, Decoder};
use zstd::stream::zio;

/// What may be asked for with `Accept-Encoding`.
pub const ENCODINGS: &str = "gzip, zstd";

/// Largest window of zstd, as a power of two: what HTTP allows (RFC 9659).
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Why a body cannot be unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnpackError {
    #[error("it has more than {max} bytes once unpacked")]
    TooLarge { max: u64 },
    #[error("{encoding}: {why}")]
    Broken { encoding: &'static str, why: String },
    #[error("received Content-Encoding {0:?}, which was not asked for")]
    Unknown(String),
}

/// Memory that refuses to grow past a limit.
struct Limited {
    bytes: Vec<u8>,
    max: u64,
    exceeded: bool,
}

impl Write for Limited {
    fn write(&mut self, chunk: &[u8]) -> std::io::Result<usize> {
        if (self.bytes.len() + chunk.len()) as u64 > self.max {
            self.exceeded = true;
            return Err(std::io::Error::other("too large"));
        }
        self.bytes.extend_from_slice(chunk);
        Ok(chunk.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

enum Unpacking {
    Plain(Limited),
    Gzip(Box<GzDecoder<Limited>>),
    Zstd(Box<zio::Writer<Limited, Decoder<'static>>>),
}

/// See the module.
pub struct Unpacker(Unpacking);

impl Unpacker {
    /// For a body that is encoded so, "" for not at all, and has at most so many bytes once
    /// it is unpacked. It goes into this memory.
    pub fn new(encoding: &str, max: u64, mut bytes: Vec<u8>) -> Result<Self, UnpackError> {
        bytes.clear();
        let limited = Limited { bytes, max, exceeded: false };
        Ok(Self(match encoding.to_ascii_lowercase().as_str() {
            "" | "identity" => Unpacking::Plain(limited),
            "gzip" => Unpacking::Gzip(Box::new(GzDecoder::new(limited))),
            "zstd" => {
                let broken = |e: std::io::Error| UnpackError::Broken {
                    encoding: "zstd",
                    why: e.to_string(),
                };
                let mut decoder = Decoder::new().map_err(broken)?;
                let window = DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX);
                decoder.set_parameter(window).map_err(broken)?;
                Unpacking::Zstd(Box::new(zio::Writer::new(limited, decoder)))
            }
            _ => return Err(UnpackError::Unknown(encoding.to_owned())),
        }))
    }

    /// For the body of an answer with these headers.
    pub fn of(headers: &HeaderMap, max: u64) -> Result<Self, UnpackError> {
        let encoding = headers.get(CONTENT_ENCODING);
        let encoding = encoding.map_or("".into(), |v| String::from_utf8_lossy(v.as_bytes()));
        Self::new(&encoding, max, Vec::new())
    }

    /// Takes what arrived.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), UnpackError> {
        let result = match &mut self.0 {
            Unpacking::Plain(limited) => limited.write_all(chunk),
            Unpacking::Gzip(decoder) => decoder.write_all(chunk),
            Unpacking::Zstd(decoder) => decoder.write_all(chunk),
        };
        result.map_err(|e| self.failed(&e))
    }

    /// The body; an error when it broke off.
    pub fn finish(mut self) -> Result<Vec<u8>, UnpackError> {
        let finished = match &mut self.0 {
            Unpacking::Plain(_) => Ok(()),
            Unpacking::Gzip(decoder) => decoder.try_finish(),
            Unpacking::Zstd(decoder) => decoder.finish(),
        };
        finished.map_err(|e| self.failed(&e))?;
        Ok(self.into_bytes())
    }

    /// What can be had of a body, though it broke off or was too large.
    pub fn so_far(mut self) -> Vec<u8> {
        // Whatever is wrong with it, what was unpacked is there.
        _ = match &mut self.0 {
            Unpacking::Plain(_) => Ok(()),
            Unpacking::Gzip(decoder) => decoder.try_finish(),
            Unpacking::Zstd(decoder) => decoder.finish(),
        };
        self.into_bytes()
    }

    fn into_bytes(self) -> Vec<u8> {
        match self.0 {
            Unpacking::Plain(limited) => limited.bytes,
            Unpacking::Gzip(mut decoder) => std::mem::take(&mut decoder.get_mut().bytes),
            Unpacking::Zstd(decoder) => decoder.into_inner().0.bytes,
        }
    }

    fn failed(&self, error: &std::io::Error) -> UnpackError {
        let (limited, encoding) = match &self.0 {
            Unpacking::Plain(limited) => (limited, "identity"),
            Unpacking::Gzip(decoder) => (decoder.get_ref(), "gzip"),
            Unpacking::Zstd(decoder) => (decoder.writer(), "zstd"),
        };
        match limited.exceeded {
            true => UnpackError::TooLarge { max: limited.max },
            false => UnpackError::Broken { encoding, why: error.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(encoding: &str, bytes: &[u8]) -> Vec<u8> {
        match encoding {
            "gzip" => {
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).expect("memory");
                encoder.finish().expect("memory")
            }
            "zstd" => zstd::bulk::compress(bytes, 1).expect("memory"),
            _ => bytes.to_vec(),
        }
    }

    fn unpacked(encoding: &str, packed: &[u8], max: u64) -> Result<Vec<u8>, UnpackError> {
        let mut unpacker = Unpacker::new(encoding, max, vec![9; 9])?;
        for part in packed.chunks(7) {
            unpacker.write(part)?;
        }
        unpacker.finish()
    }

    #[test]
    fn what_was_packed_comes_back_whole_or_is_refused() {
        let text: Vec<u8> = (0..20_000_u32).flat_map(|n| n.to_string().into_bytes()).collect();
        let size = text.len() as u64;
        for encoding in ["", "identity", "GZIP", "gzip", "zstd"] {
            let packed = packed(&encoding.to_lowercase(), &text);
            let whole = unpacked(encoding, &packed, size);
            assert_eq!(whole.as_ref(), Ok(&text), "{encoding}");
            let too_large = Err(UnpackError::TooLarge { max: size - 1 });
            assert_eq!(unpacked(encoding, &packed, size - 1), too_large, "{encoding}");
            if packed.len() < text.len() {
                let cut = unpacked(encoding, &packed[..packed.len() - 9], size);
                assert!(matches!(cut, Err(UnpackError::Broken { .. })), "{encoding}: {cut:?}");
            }
        }
        let unknown = Err(UnpackError::Unknown("br".to_owned()));
        assert_eq!(unpacked("br", b"x", 10), unknown);
    }

    #[test]
    fn a_bomb_is_refused_with_the_memory_it_may_have() {
        for encoding in ["gzip", "zstd"] {
            let bomb = packed(encoding, &vec![0; 64 << 20]);
            assert!(bomb.len() < 400_000, "{encoding}: {}", bomb.len());
            let mut unpacker = Unpacker::new(encoding, 1 << 20, Vec::new()).expect("known");
            assert_eq!(unpacker.write(&bomb), Err(UnpackError::TooLarge { max: 1 << 20 }));
            let held = match &unpacker.0 {
                Unpacking::Plain(limited) => limited.bytes.capacity(),
                Unpacking::Gzip(decoder) => decoder.get_ref().bytes.capacity(),
                Unpacking::Zstd(decoder) => decoder.writer().bytes.capacity(),
            };
            assert!(held <= 2 << 20, "{encoding}: {held}");
        }
    }
}
