//! Log streams on this machine: where each is, and what a line of it looks like.
//!
//! What containers with the log driver `awslogs` say, kept so that it can be read as CloudWatch
//! Logs has it ([`reading`]). Under one folder: `GROUP/STREAM.log`, and `.log.1` to `.log.3` before
//! it, each name percent-encoded where it is no plain file name. A line is a time (RFC 3339, UTC,
//! nine digits of a second), a blank, and the message. Not here: who writes (`docker::logs`), who
//! may read. **Invariant:** a writer that comes back writes nothing that is in the stream already:
//! its end tells what is missing.

pub mod reading;

use std::fmt::Write as _;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};

use tokio::fs::{self, File, OpenOptions};
use tokio::io::{self, AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

/// A file longer than this makes room for the next.
const LENGTH: u64 = 16 << 20;
/// The file itself, and `.1` to `.3`.
const FILES: u32 = 4;
/// Streams of one group that are kept, the youngest (ours: CloudWatch keeps them for ever).
const KEPT: usize = 1000;
/// As much of a file's end as surely holds a whole line's beginning: Docker splits at 16 KiB.
const TAIL: u64 = 64 << 10;
/// `2026-11-21T05:41:25.123456789Z`.
const STAMP: usize = 30;

/// The file of a stream under `root`.
#[must_use]
pub fn path(root: &Path, group: &str, stream: &str) -> PathBuf {
    root.join(encoded(group)).join(format!("{}.log", encoded(stream)))
}

fn encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b"_-#".contains(&byte);
        if plain || (byte == b'.' && index > 0) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// What [`encoded`] made a name of. None: it made no such name.
fn decoded(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}

/// A stream that is being written; one writer at a time.
#[derive(Debug)]
pub(super) struct Stream {
    path: PathBuf,
    file: File,
    length: u64,
    /// The youngest line that was there when it was opened. Empty: there was none.
    resumed: String,
}

impl Stream {
    /// Opens the stream at its end.
    pub(super) async fn open(path: PathBuf) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).await?;
            forget_oldest(folder).await?;
        }
        let resumed = stamp_of(&path).await?.max(stamp_of(&numbered(&path, 1)).await?);
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path).await?;
        let length = file.metadata().await?.len();
        Ok(Self { path, file, length, resumed })
    }

    /// The time of the youngest line that was there before. Empty: there was none.
    pub(super) fn resumed(&self) -> &str {
        &self.resumed
    }

    /// Adds a line, unless it was there before.
    pub(super) async fn add(&mut self, line: &str) -> io::Result<()> {
        let Some(stamp) = stamp(line) else { return Ok(()) };
        if stamp <= self.resumed.as_str() {
            return Ok(());
        }
        if self.length >= LENGTH {
            self.turn().await?;
        }
        let line = format!("{line}\n");
        self.file.write_all(line.as_bytes()).await?;
        self.file.flush().await?;
        self.length += line.len() as u64;
        Ok(())
    }

    async fn turn(&mut self) -> io::Result<()> {
        for number in (0..FILES - 1).rev() {
            let (from, to) = (numbered(&self.path, number), numbered(&self.path, number + 1));
            match fs::rename(from, to).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let mut options = OpenOptions::new();
        self.file = options.append(true).create(true).mode(0o600).open(&self.path).await?;
        self.length = 0;
        Ok(())
    }
}

/// The file that was turned over so often; 0: the stream's own.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name.into()
}

fn stamp(line: &str) -> Option<&str> {
    let stamp = line.get(..STAMP)?;
    let shape = |(index, byte): (usize, u8)| match index {
        4 | 7 => byte == b'-',
        10 => byte == b'T',
        13 | 16 => byte == b':',
        19 => byte == b'.',
        29 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    };
    let follows = matches!(line.as_bytes().get(STAMP), None | Some(b' '));
    (follows && stamp.bytes().enumerate().all(shape)).then_some(stamp)
}

/// The youngest time near the end of a file: two writers' lines may stand the wrong way round.
async fn stamp_of(path: &Path) -> io::Result<String> {
    let mut file = match File::open(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened?,
    };
    let length = file.metadata().await?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).await?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).await?;
    let end = String::from_utf8_lossy(&end);
    Ok(end.lines().filter_map(stamp).max().unwrap_or_default().to_owned())
}

async fn forget_oldest(folder: &Path) -> io::Result<()> {
    let mut entries = fs::read_dir(folder).await?;
    let mut files = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        files.push((entry.metadata().await?.modified()?, entry.path()));
    }
    files.sort();
    let surplus = files.len().saturating_sub(KEPT);
    for (_, path) in files.into_iter().take(surplus) {
        fs::remove_file(path).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_streams_stay_inside_their_folder() {
        let check = |group: &str, stream: &str, expected: &str| {
            assert_eq!(path(Path::new("/l"), group, stream), Path::new(expected), "{group}");
        };
        check("web", "ecs", "/l/web/ecs.log");
        check("/ecs/web", "p/app/0a", "/l/%2Fecs%2Fweb/p%2Fapp%2F0a.log");
        check("..", "a.b%", "/l/%2E./a.b%25.log");
    }

    #[test]
    fn names_are_read_back() {
        for name in ["web", "/ecs/web", "..", "a.b%", "ä/ö"] {
            assert_eq!(decoded(&encoded(name)).as_deref(), Some(name));
        }
        assert_eq!((decoded("a%2"), decoded("a%zz"), decoded("%FF")), (None, None, None));
    }

    #[test]
    fn only_a_whole_time_is_a_line_s_beginning() {
        let check = |line: &str, is_one: bool| assert_eq!(stamp(line).is_some(), is_one, "{line}");
        check("2026-11-21T05:41:25.123456789Z hello", true);
        check("2026-11-21T05:41:25.123456789Z", true);
        check("2026-11-21T05:41:25.123456789Zhello", false);
        check("2026-11-21 05:41:25.123456789Z hello", false);
        check("", false);
        check("äöü", false);
    }

    #[tokio::test]
    async fn stream_goes_on_where_it_ended_and_repeats_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = path(directory.path(), "g", "s");
        let line = |second: u32| format!("2026-11-21T05:41:{second:02}.000000000Z line {second}");
        let mut stream = Stream::open(path.clone()).await.unwrap();
        assert_eq!(stream.resumed(), "");
        // Two of the container's streams may come the wrong way round.
        for second in [1, 3, 2] {
            stream.add(&line(second)).await.unwrap();
        }
        stream.add("no time at all").await.unwrap();
        let mut stream = Stream::open(path.clone()).await.unwrap();
        assert_eq!(stream.resumed(), &line(3)[..STAMP]);
        for second in [1, 3, 2, 4] {
            stream.add(&line(second)).await.unwrap();
        }
        stream.turn().await.unwrap();
        stream.add(&line(5)).await.unwrap();
        let read = |number| std::fs::read_to_string(numbered(&path, number)).unwrap();
        let seconds = |text: String| -> Vec<String> {
            text.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
        };
        assert_eq!(
            (seconds(read(1)), seconds(read(0))),
            (["1", "3", "2", "4"].map(str::to_owned).to_vec(), vec!["5".to_owned()])
        );
    }
}
