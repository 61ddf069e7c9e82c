//! Content codings: which one a client is to get, which responses are worth it, and the coders.
//!
//! RFC 9110, sections 8.4 and 12.5.3. Not here: who reads and writes bytes. **Invariant:** what a
//! coder was given is in what it has put out since, so that a slow stream stays a stream.

use std::io::{self, Write as _};

use crate::model::{Coding, Compression};

/// gzip's level, Brotli's quality and Zstandard's level (ours: about 1 ms per 64 KiB at most, which
/// is what a data thread may be kept for).
const GZIP: u32 = 5;
const BROTLI: u32 = 4;
const ZSTD: i32 = 3;
/// Bits of the window that a coder keeps of what went before (ours: 256 KiB; gzip's is 32 KiB).
const WINDOW: u32 = 18;

/// What the client is to get of `offered`, of which the first is preferred among equals; `sent` are
/// the values of its `Accept-Encoding`. None: the response as it is.
#[must_use]
pub fn negotiate<'a>(sent: impl Iterator<Item = &'a [u8]>, offered: &[Coding]) -> Option<Coding> {
    // By name, in thousandths; what is not named is worth what `*` is.
    let mut named = [None; Coding::ALL.len()];
    let (mut other, mut identity) = (0, None);
    let members = sent.flat_map(|value| value.split(|byte| *byte == b','));
    for member in members.filter_map(|member| std::str::from_utf8(member).ok()) {
        let (name, parameters) = member.split_once(';').unwrap_or((member, ""));
        let (name, quality) = (name.trim(), quality(parameters));
        if name == "*" {
            other = quality;
        } else if name.eq_ignore_ascii_case("identity") {
            identity = Some(quality);
        } else if let Some(place) = Coding::ALL.iter().position(|own| own.is_called(name)) {
            named[place] = Some(quality);
        }
    }
    let worth = |coding: &Coding| named[*coding as usize].unwrap_or(other);
    // The last of equals is what `max_by_key` takes.
    let best = offered.iter().rev().max_by_key(|coding| worth(coding))?;
    let is_better = worth(best) > 0 && identity.is_none_or(|identity| worth(best) >= identity);
    is_better.then_some(*best)
}

/// `q=0.5` in thousandths; 1 where nothing else is said, 0 where it is no number.
fn quality(parameters: &str) -> u16 {
    let q = |parameter: &str| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse::<f32>())
    };
    match parameters.split(';').find_map(q) {
        None => 1000,
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
        Some(Ok(q)) if (0.0..=1.0).contains(&q) => (q * 1000.0).round() as u16,
        Some(_) => 0,
    }
}

/// What a response's head says of whether it may be coded.
#[derive(Clone, Copy, Debug)]
pub struct Nature<'a> {
    status: u16,
    length: Option<u64>,
    content_type: &'a [u8],
    /// It is coded already, is a part, or must stay as it is.
    is_fixed: bool,
    varies: bool,
}

impl<'a> Nature<'a> {
    /// Before its fields are known.
    #[must_use]
    pub const fn of(status: u16, length: Option<u64>) -> Self {
        Self { status, length, content_type: b"", is_fixed: false, varies: false }
    }

    /// One of its fields.
    pub fn field(&mut self, name: &str, value: &'a [u8]) {
        let has = |word: &[u8]| {
            value
                .split(|byte| *byte == b',')
                .any(|part| part.trim_ascii().eq_ignore_ascii_case(word))
        };
        match name.len() {
            12 if name.eq_ignore_ascii_case("content-type") => self.content_type = value,
            13 if name.eq_ignore_ascii_case("content-range") => self.is_fixed = true,
            13 if name.eq_ignore_ascii_case("cache-control") => {
                self.is_fixed |= has(b"no-transform");
            }
            16 if name.eq_ignore_ascii_case("content-encoding") => {
                self.is_fixed |= !has(b"identity");
            }
            4 if name.eq_ignore_ascii_case("vary") => {
                self.varies |= has(b"*") || has(b"accept-encoding");
            }
            _ => {}
        }
    }

    /// Whether clients get it coded who ask for that.
    #[must_use]
    pub fn is_worth_it(&self, rules: &Compression) -> bool {
        let end = memchr::memchr(b';', self.content_type).unwrap_or(self.content_type.len());
        let kind = self.content_type[..end].trim_ascii();
        let is_kind = |own: &String| match own.strip_suffix('*') {
            Some(start) => kind
                .get(..start.len())
                .is_some_and(|kind| kind.eq_ignore_ascii_case(start.as_bytes())),
            None => kind.eq_ignore_ascii_case(own.as_bytes()),
        };
        !self.is_fixed
            && !matches!(self.status, ..200 | 204 | 206 | 304)
            && self.length.is_none_or(|length| length >= rules.minimum_size)
            && rules.content_types.iter().any(is_kind)
    }

    /// Whether caches are told already that it differs by what clients accept.
    #[must_use]
    pub const fn varies(&self) -> bool {
        self.varies
    }
}

/// Codes one body.
pub enum Coder {
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl std::fmt::Debug for Coder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Coder")
    }
}

impl Coder {
    /// # Errors
    /// There is no memory for it.
    pub fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => {
                let level = flate2::Compression::new(GZIP);
                Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), level))
            }
            Coding::Br => {
                let coder = brotli::CompressorWriter::new(Vec::new(), 4096, BROTLI, WINDOW);
                Self::Brotli(Box::new(coder))
            }
            Coding::Zstd => {
                let mut coder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD)?;
                coder.window_log(WINDOW)?;
                Self::Zstd(coder)
            }
        })
    }

    /// What comes out for `bytes`, all of it.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn code(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(coder) => {
                coder.write_all(bytes)?;
                coder.flush()?;
                Ok(std::mem::take(coder.get_mut()))
            }
            Self::Brotli(coder) => {
                coder.write_all(bytes)?;
                coder.flush()?;
                Ok(std::mem::take(coder.get_mut()))
            }
            Self::Zstd(coder) => {
                coder.write_all(bytes)?;
                coder.flush()?;
                Ok(std::mem::take(coder.get_mut()))
            }
        }
    }

    /// What stands behind the last of it.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(coder) => coder.finish(),
            Self::Brotli(coder) => Ok(coder.into_inner()),
            Self::Zstd(coder) => coder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    const ALL: [Coding; 3] = [Coding::Br, Coding::Zstd, Coding::Gzip];

    fn check(sent: &[&str], expected: Option<Coding>) {
        let values = sent.iter().map(|value| value.as_bytes());
        assert_eq!(negotiate(values, &ALL), expected, "{sent:?}");
    }

    #[test]
    fn clients_get_what_they_like_best_and_among_equals_what_we_like() {
        check(&[], None);
        check(&[""], None);
        check(&["gzip"], Some(Coding::Gzip));
        check(&["gzip, deflate, br, zstd"], Some(Coding::Br));
        check(&["GZIP", "zstd"], Some(Coding::Zstd));
        check(&["br;q=0.5, gzip;q=0.9"], Some(Coding::Gzip));
        check(&["br; Q=0.5 , gzip ; q=0.501"], Some(Coding::Gzip));
        check(&["x-gzip"], Some(Coding::Gzip));
        check(&["*"], Some(Coding::Br));
        check(&["*, br;q=0"], Some(Coding::Zstd));
        check(&["*;q=0.1, gzip"], Some(Coding::Gzip));
        check(&["br;q=0, gzip;q=0"], None);
        check(&["br;q=2, gzip;q=x"], None);
        check(&["identity"], None);
        check(&["identity, gzip;q=0.5"], None);
        check(&["identity;q=0.5, gzip;q=0.5"], Some(Coding::Gzip));
        assert_eq!(negotiate([&b"br"[..]].into_iter(), &[Coding::Gzip]), None);
    }

    /// `fields`: lines of a head.
    fn worth(status: u16, length: Option<u64>, fields: &str) -> (bool, bool) {
        let mut nature = Nature::of(status, length);
        for line in fields.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            nature.field(name, value.as_bytes());
        }
        let types = vec!["text/*".to_owned(), "application/json".to_owned()];
        let rules = Compression { content_types: types, ..Compression::default() };
        (nature.is_worth_it(&rules), nature.varies())
    }

    #[test]
    fn what_is_small_coded_or_not_to_be_touched_stays_as_it_is() {
        let text = "Content-Type: Text/html; charset=utf-8";
        assert_eq!(worth(200, Some(5_000), text), (true, false));
        assert_eq!(worth(404, None, text), (true, false));
        for status in [101, 204, 206, 304] {
            assert!(!worth(status, Some(5_000), text).0, "{status}");
        }
        assert!(!worth(200, Some(1_023), text).0);
        assert!(!worth(200, None, "Content-Type: image/png").0);
        assert!(!worth(200, None, "Content-Type: application/jsonp").0);
        assert!(!worth(200, None, "Server: x").0);
        for line in [
            "Content-Encoding: gzip",
            "Content-Range: bytes 0-1/2",
            "Cache-Control: public, No-Transform",
        ] {
            assert!(!worth(200, None, &format!("{text}\n{line}")).0, "{line}");
        }
        assert!(worth(200, None, &format!("{text}\nContent-Encoding: identity")).0);
        assert_eq!(worth(200, None, &format!("{text}\nVary: a, Accept-Encoding")), (true, true));
    }

    #[test]
    fn what_was_given_can_be_read_at_once_and_at_the_end() {
        let text = "All work and no play makes Jack a dull boy. ".repeat(3_000);
        for coding in ALL {
            let mut coder = Coder::new(coding).unwrap();
            let mut all = Vec::new();
            for part in text.as_bytes().chunks(50_000) {
                all.extend(coder.code(part).unwrap());
                // A stream that is not over: what it holds so far is there.
                let so_far = read(coding, &all);
                assert!(so_far.len() >= part.len(), "{coding:?}: {}", so_far.len());
            }
            all.extend(coder.finish().unwrap());
            assert_eq!(read(coding, &all), text.as_bytes(), "{coding:?}");
            assert!(all.len() < text.len() / 10, "{coding:?}: {}", all.len());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_is_misread(
            text in "(br|gzip|zstd|identity|\\*|;|,|=|q|0|1|[.]|5| |x){0,30}",
            only in 0usize..3,
        ) {
            // What is offered alone is taken or nothing is; of more never one that is worth less.
            let alone = negotiate([text.as_bytes()].into_iter(), &ALL[only..=only]);
            proptest::prop_assert!(alone.is_none_or(|own| own == ALL[only]));
            if let Some(best) = negotiate([text.as_bytes()].into_iter(), &ALL) {
                let again = negotiate([text.as_bytes()].into_iter(), &[best]);
                proptest::prop_assert_eq!(again, Some(best));
            }
        }
    }

    /// As much as can be read.
    fn read(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let _ = match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
            Coding::Br => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out),
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut out),
        };
        out
    }
}
