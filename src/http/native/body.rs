//! How a body's bytes are told from what is behind them, both for requests and for responses.
//!
//! Looks at bytes in place: what frames a chunk is taken out, what it holds moves together. Not
//! here: how the body is framed again on the other side (`lane`). **Invariant:** each byte is
//! looked at once, in whatever pieces it comes, and a chunk that two parsers could size differently
//! is refused.

use super::frames::Frames;

/// Bytes of chunk extensions that one body may carry; none is passed on (ours).
const EXTENSIONS: usize = 16 * 1024;
/// Bytes of one trailer section (ours: ALB's limit of a single header).
pub(super) const TRAILERS: usize = super::super::head::HEADER;

/// The body is framed in no way we could trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A body that is being read.
#[derive(Debug)]
pub(super) enum Body {
    /// So many bytes are still to come.
    Length(u64),
    Chunked(Chunks),
    /// It ends with its connection.
    UntilEnd,
    /// One half of a WebSocket: the same, and it is known where its frames end.
    Frames(Frames),
    /// It is ended by us, with these bytes.
    Closed(&'static [u8]),
    /// What carried it has ended, with these trailers.
    Ended(Vec<u8>),
}

/// How far bytes were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Looked {
    /// Bytes of the body, now at the front.
    pub(super) content: usize,
    /// Bytes behind the body, right after them.
    pub(super) behind: usize,
}

impl Body {
    pub(super) const fn none() -> Self {
        Self::Length(0)
    }

    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunks::default())
    }

    pub(super) const fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => matches!(chunks.state, State::Done),
            Self::UntilEnd | Self::Frames(_) => false,
            Self::Closed(_) | Self::Ended(_) => true,
        }
    }

    /// Whether only the end of its connection is its end.
    pub(super) const fn ends_with_connection(&self) -> bool {
        matches!(self, Self::UntilEnd | Self::Frames(_))
    }

    /// The trailer section, each line with its end; empty without one.
    pub(super) fn trailers(&self) -> &[u8] {
        match self {
            Self::Chunked(chunks) => &chunks.trailers,
            Self::Ended(trailers) => trailers,
            Self::Length(_) | Self::UntilEnd | Self::Frames(_) | Self::Closed(_) => &[],
        }
    }

    /// Looks at bytes that have come.
    ///
    /// # Errors
    /// A chunk is framed in no way that RFC 9112, section 7.1, knows.
    pub(super) fn look(&mut self, bytes: &mut [u8]) -> Result<Looked, Malformed> {
        match self {
            Self::Length(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let content = bytes.len().min(most);
                *left -= content as u64;
                Ok(Looked { content, behind: bytes.len() - content })
            }
            Self::Chunked(chunks) => chunks.look(bytes),
            Self::UntilEnd => Ok(Looked { content: bytes.len(), behind: 0 }),
            Self::Frames(frames) => {
                frames.pass(bytes);
                Ok(Looked { content: bytes.len(), behind: 0 })
            }
            Self::Closed(_) | Self::Ended(_) => Ok(Looked { content: 0, behind: bytes.len() }),
        }
    }
}

/// A chunked body: where in its framing the next byte stands.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: State,
    extensions: usize,
    trailers: Vec<u8>,
    /// Where the current trailer line begins.
    line: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Before the first digit of a size.
    #[default]
    Size,
    Digits(u64),
    /// White space behind the digits.
    Blank(u64),
    Extension(u64),
    SizeEnd(u64),
    Content(u64),
    ContentCr,
    ContentEnd,
    Trailer,
    TrailerEnd,
    Done,
}

impl Chunks {
    fn look(&mut self, bytes: &mut [u8]) -> Result<Looked, Malformed> {
        let (mut at, mut content) = (0, 0);
        while at < bytes.len() {
            match self.state {
                State::Done => break,
                State::Content(left) => {
                    let most = usize::try_from(left).unwrap_or(usize::MAX);
                    let count = most.min(bytes.len() - at);
                    bytes.copy_within(at..at + count, content);
                    content += count;
                    at += count;
                    let left = left - count as u64;
                    self.state = if left == 0 { State::ContentCr } else { State::Content(left) };
                }
                _ => {
                    self.state = self.step(bytes[at])?;
                    at += 1;
                }
            }
        }
        let behind = bytes.len() - at;
        bytes.copy_within(at.., content);
        Ok(Looked { content, behind })
    }

    fn step(&mut self, byte: u8) -> Result<State, Malformed> {
        Ok(match (self.state, byte) {
            (State::Size, _) => State::Digits(digit(byte).ok_or(Malformed)?),
            (State::Digits(size), b'\r') => State::SizeEnd(size),
            (State::Blank(size), b'\r') => State::SizeEnd(size),
            (State::Extension(size), b'\r') => State::SizeEnd(size),
            (State::Digits(size) | State::Blank(size), b';') => State::Extension(size),
            // Some targets pad their sizes.
            (State::Digits(size) | State::Blank(size), b' ' | b'\t') => {
                self.count_extension()?;
                State::Blank(size)
            }
            (State::Digits(size), _) => {
                let digit = digit(byte).ok_or(Malformed)?;
                // Fifteen digits: no size that overflows, however many zeros lead.
                if size >> 56 != 0 {
                    return Err(Malformed);
                }
                self.count_extension()?;
                State::Digits(size << 4 | digit)
            }
            (State::Extension(size), b'\t' | b' '..=b'~' | 0x80..) => {
                self.count_extension()?;
                State::Extension(size)
            }
            (State::SizeEnd(0), b'\n') => State::Trailer,
            (State::SizeEnd(size), b'\n') => {
                // What a size line costs is held against what it frames: a long body is no attack.
                let content = usize::try_from(size).unwrap_or(usize::MAX);
                let credit = content.saturating_mul(2).saturating_add(16);
                self.extensions = self.extensions.saturating_sub(credit);
                State::Content(size)
            }
            (State::ContentCr, b'\r') => State::ContentEnd,
            (State::ContentEnd, b'\n') => State::Size,
            (State::Trailer, b'\r') => State::TrailerEnd,
            (State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => {
                self.keep(byte)?;
                State::Trailer
            }
            (State::TrailerEnd, b'\n') if self.line == self.trailers.len() => State::Done,
            (State::TrailerEnd, b'\n') => {
                self.keep(b'\r')?;
                self.keep(b'\n')?;
                self.line = self.trailers.len();
                State::Trailer
            }
            _ => return Err(Malformed),
        })
    }

    fn count_extension(&mut self) -> Result<(), Malformed> {
        self.extensions += 1;
        if self.extensions > EXTENSIONS { Err(Malformed) } else { Ok(()) }
    }

    fn keep(&mut self, byte: u8) -> Result<(), Malformed> {
        self.trailers.push(byte);
        if self.trailers.len() > TRAILERS { Err(Malformed) } else { Ok(()) }
    }
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Content, trailers, what is behind; none while it is not done.
    type Read = Result<Option<(Vec<u8>, Vec<u8>, Vec<u8>)>, Malformed>;

    fn read(mut body: Body, bytes: &[u8], step: usize) -> Read {
        let mut content = Vec::new();
        for (index, piece) in bytes.chunks(step).enumerate() {
            let mut piece = piece.to_vec();
            let looked = body.look(&mut piece)?;
            content.extend_from_slice(&piece[..looked.content]);
            if body.is_done() {
                let mut behind = piece[looked.content..][..looked.behind].to_vec();
                behind.extend_from_slice(&bytes[bytes.len().min((index + 1) * step)..]);
                return Ok(Some((content, body.trailers().to_vec(), behind)));
            }
            assert_eq!(looked.behind, 0);
        }
        Ok(None)
    }

    fn check(bytes: &str, expected: Result<Option<(&str, &str, &str)>, Malformed>) {
        for step in [1, 2, 3, 7, bytes.len()] {
            let expected = expected.map(|read| {
                read.map(|(a, b, c)| {
                    (a.as_bytes().to_vec(), b.as_bytes().to_vec(), c.as_bytes().to_vec())
                })
            });
            assert_eq!(read(Body::chunked(), bytes.as_bytes(), step), expected, "{bytes:?}");
        }
    }

    #[test]
    fn chunks_become_what_they_hold() {
        check("0\r\n\r\n", Ok(Some(("", "", ""))));
        check("3\r\nabc\r\n0\r\n\r\nGET", Ok(Some(("abc", "", "GET"))));
        check("3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", Ok(Some(("abc0123456789", "", ""))));
        check("0003;a=\"b\" ;c\r\na\r\n\r\n00\r\n\r\n", Ok(Some(("a\r\n", "", ""))));
        check("3  \r\nabc\r\n0\r\n\r\n", Ok(Some(("abc", "", ""))));
        check("1\r\na\r\n0\r\nX: y\r\nZ: 1\r\n\r\nr", Ok(Some(("a", "X: y\r\nZ: 1\r\n", "r"))));
        check("3\r\nab", Ok(None));
        check("0\r\n", Ok(None));
    }

    #[test]
    fn chunks_that_could_be_read_twice_are_refused() {
        for bytes in [
            "\r\n",
            "g\r\n",
            "+1\r\na\r\n",
            "-1\r\na\r\n",
            " 1\r\na\r\n",
            "0x1\r\na\r\n",
            "1\na\r\n",
            "1\r\rna",
            "1;x\na\r\n",
            "1\r\nab\r\n",
            "1\r\na\n0\r\n\r\n",
            "1 1\r\na",
            "10000000000000000\r\n",
            "ffffffffffffffff1\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\nX: y\rz\r\n",
            "0\r\nX: \0\r\n\r\n",
        ] {
            check(bytes, Err(Malformed));
        }
        let endless = |opening: &str| opening.to_owned() + &"a".repeat(EXTENSIONS + 1);
        check(&endless("1;"), Err(Malformed));
        check(&endless("0\r\n"), Err(Malformed));
        check(&"0".repeat(EXTENSIONS + 2), Err(Malformed));
    }

    #[test]
    fn long_bodies_are_no_attack_and_padding_is() {
        let check = |chunk: String, count: usize, expected: bool| {
            let text = chunk.repeat(count) + "0\r\n\r\n";
            let outcome = read(Body::chunked(), text.as_bytes(), 4096);
            assert_eq!(outcome.is_ok(), expected, "{count} of {:?}", &chunk[..20]);
        };
        check(format!("10\r\n{}\r\n", "x".repeat(16)), 20_000, true);
        check(format!("2000\r\n{}\r\n", "x".repeat(0x2000)), 6_000, true);
        check(format!("1;{}\r\nx\r\n", "e".repeat(1000)), 20, false);
    }

    #[test]
    fn lengths_end_where_they_say() {
        let all = (b"abc".to_vec(), Vec::new(), b"de".to_vec());
        for step in 1..6 {
            assert_eq!(read(Body::Length(3), b"abcde", step), Ok(Some(all.clone())));
        }
        assert!(Body::none().is_done() && !Body::UntilEnd.is_done());
        assert_eq!(read(Body::UntilEnd, b"abc", 2), Ok(None));
    }

    proptest! {
        #[test]
        fn the_same_chunks_in_any_pieces_give_the_same_body(
            chunks in prop::collection::vec(("[0]{0,2}", "[a-z\r\n]{1,40}", "(;x)?"), 0..5),
            end in "0\r\n(X: y\r\n){0,2}\r\n?\n?.{0,5}",
            step in 1usize..50,
        ) {
            let mut text = String::new();
            for (zeros, content, extension) in chunks {
                text += &format!("{zeros}{:x}{extension}\r\n{content}\r\n", content.len());
            }
            text += &end;
            let whole = read(Body::chunked(), text.as_bytes(), text.len());
            prop_assert_eq!(read(Body::chunked(), text.as_bytes(), step), whole);
        }

        #[test]
        fn no_bytes_make_the_chunk_parser_panic(
            bytes in prop::collection::vec(any::<u8>(), 1..200),
            step in 1usize..50,
        ) {
            let _ = read(Body::chunked(), &bytes, step);
        }
    }
}
