//! Reading log streams: which there are, and their lines from a place on, either way.
//!
//! Everything here blocks: call it off the runtime's threads. A place is a file's inode and an
//! offset, so that it stays right when files are turned over; where its file is gone, it is the
//! oldest line that is left. **Invariant:** one call looks at no more than [`SCAN`] bytes.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::{FILES, STAMP, decoded, encoded, numbered, stamp};

/// Bytes that one call looks at (ours); the next goes on behind them.
pub const SCAN: u64 = 16 << 20;
/// Longer lines are passed over; no writer of ours makes them.
const LONGEST: u64 = 1 << 20;
const BLOCK: u64 = 64 << 10;

/// A group or a stream on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub name: String,
    /// Milliseconds since 1970.
    pub created: u64,
    pub modified: u64,
    /// Of everything in it.
    pub bytes: u64,
}

/// A place between two lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub inode: u64,
    pub offset: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it begins.
    pub place: Place,
    /// Milliseconds since 1970.
    pub at: u64,
    pub message: String,
}

fn millis(time: io::Result<std::time::SystemTime>) -> u64 {
    let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or(0)
}

/// The groups that hold a stream, by name.
///
/// # Errors
/// The folder cannot be read.
pub fn groups(root: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for (path, file, metadata) in entries(root)? {
        let Some(name) = decoded(&file).filter(|_| metadata.is_dir()) else { continue };
        let inside = entries(&path)?;
        let bytes = inside.iter().map(|(_, _, metadata)| metadata.len()).sum();
        let (created, modified) = (millis(metadata.created()), millis(metadata.modified()));
        found.push(Found { name, created, modified, bytes });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The streams of a group, by name.
///
/// # Errors
/// The folder cannot be read.
pub fn streams(root: &Path, group: &str) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for (_, file, metadata) in entries(&root.join(encoded(group)))? {
        let Some(name) = file.strip_suffix(".log").and_then(decoded) else { continue };
        let (created, modified) = (millis(metadata.created()), millis(metadata.modified()));
        found.push(Found { name, created, modified, bytes: metadata.len() });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// A folder that is not there is empty.
fn entries(folder: &Path) -> io::Result<Vec<(PathBuf, String, fs::Metadata)>> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    let mut found = Vec::new();
    for entry in listed {
        let entry = entry?;
        // Gone in the meantime, or no name of ours.
        let (Ok(metadata), Ok(name)) = (entry.metadata(), entry.file_name().into_string()) else {
            continue;
        };
        found.push((entry.path(), name, metadata));
    }
    Ok(found)
}

/// Makes an empty stream. False: it was there.
///
/// # Errors
/// The disk refuses.
pub fn create(root: &Path, group: &str, stream: &str) -> io::Result<bool> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = super::path(root, group, stream);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match File::options().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        opened => opened.map(|_| true),
    }
}

/// Removes a stream with all that is in it. False: there was none.
///
/// # Errors
/// The disk refuses.
pub fn remove(root: &Path, group: &str, stream: &str) -> io::Result<bool> {
    let path = super::path(root, group, stream);
    let mut removed = false;
    for number in (0..FILES).rev() {
        match fs::remove_file(numbered(&path, number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => {
                outcome?;
                removed = true;
            }
        }
    }
    Ok(removed)
}

/// Removes a group with all its streams.
///
/// # Errors
/// The disk refuses.
pub fn remove_group(root: &Path, group: &str) -> io::Result<()> {
    match fs::remove_dir_all(root.join(encoded(group))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// A stream's files, the oldest first.
#[derive(Debug)]
pub struct Pages(Vec<Page>);

#[derive(Debug)]
struct Page {
    file: File,
    inode: u64,
    /// Up to the end of its last whole line.
    length: u64,
}

/// Lines that were asked for, in their order, and where the others go on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Read {
    pub lines: Vec<Line>,
    /// Behind what was looked at, in the direction of reading. None: there is no file.
    pub next: Option<Place>,
}

/// What is left to be looked at and to be returned.
struct Budget {
    scan: u64,
    lines: usize,
    bytes: usize,
}

impl Budget {
    const fn is_spent(&self) -> bool {
        self.scan == 0 || self.lines == 0 || self.bytes == 0
    }

    /// Whether there is room; a first line always has it.
    fn take(&mut self, line: Line, lines: &mut Vec<Line>) -> bool {
        if !lines.is_empty() && line.message.len() > self.bytes {
            self.bytes = 0;
            return false;
        }
        self.lines = self.lines.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(line.message.len());
        lines.push(line);
        true
    }
}

impl Pages {
    /// # Errors
    /// A file cannot be read. None of it there is an empty stream.
    pub fn open(root: &Path, group: &str, stream: &str) -> io::Result<Self> {
        let path = super::path(root, group, stream);
        let mut pages = Vec::new();
        // The newest first: one that is turned over meanwhile is found twice rather than never.
        for number in 0..FILES {
            let file = match File::open(numbered(&path, number)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            let metadata = file.metadata()?;
            let inode = metadata.ino();
            if pages.iter().all(|page: &Page| page.inode != inode) {
                let length = whole(&file, metadata.len())?;
                pages.push(Page { file, inode, length });
            }
        }
        pages.reverse();
        Ok(Self(pages))
    }

    #[must_use]
    pub fn start(&self) -> Option<Place> {
        self.0.first().map(|page| Place { inode: page.inode, offset: 0 })
    }

    #[must_use]
    pub fn end(&self) -> Option<Place> {
        self.0.last().map(|page| Place { inode: page.inode, offset: page.length })
    }

    fn find(&self, place: Place) -> (usize, u64) {
        let at = self.0.iter().position(|page| page.inode == place.inode);
        at.map_or((0, 0), |at| (at, place.offset.min(self.0[at].length)))
    }

    /// At most `most` lines and `bytes` of messages that `wants` wants, from `place` on.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn forward(
        &self,
        place: Place,
        (most, bytes): (usize, usize),
        wants: impl Fn(&Line) -> bool,
    ) -> io::Result<Read> {
        let (first, mut offset) = self.find(place);
        let mut budget = Budget { scan: SCAN, lines: most, bytes };
        let mut read = Read::default();
        for page in self.0.iter().skip(first) {
            let mut file = BufReader::new(&page.file);
            file.seek(SeekFrom::Start(offset))?;
            while offset < page.length && !budget.is_spent() {
                let mut text = Vec::new();
                let room = LONGEST.min(page.length - offset);
                let length = file.by_ref().take(room).read_until(b'\n', &mut text)? as u64;
                if length == 0 {
                    break;
                }
                let place = Place { inode: page.inode, offset };
                let line = line(place, &text).filter(|line| wants(line));
                if line.is_some_and(|line| !budget.take(line, &mut read.lines)) {
                    break;
                }
                offset += length;
                budget.scan = budget.scan.saturating_sub(length);
            }
            read.next = Some(Place { inode: page.inode, offset });
            if offset < page.length {
                break;
            }
            offset = 0;
        }
        Ok(read)
    }

    /// As [`Self::forward`], before `place`: the last of those lines.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn backward(
        &self,
        place: Place,
        (most, bytes): (usize, usize),
        wants: impl Fn(&Line) -> bool,
    ) -> io::Result<Read> {
        let (last, mut end) = self.find(place);
        let mut budget = Budget { scan: SCAN, lines: most, bytes };
        let mut read = Read::default();
        for page in self.0.iter().take(last + 1).rev() {
            while end > 0 && !budget.is_spent() {
                let (begin, block) = block_before(&page.file, end)?;
                budget.scan = budget.scan.saturating_sub(end - begin);
                let mut at = end;
                for text in block.split_inclusive(|byte| *byte == b'\n').rev() {
                    let place = Place { inode: page.inode, offset: at - text.len() as u64 };
                    let line = line(place, text).filter(|line| wants(line));
                    if line.is_some_and(|line| !budget.take(line, &mut read.lines)) {
                        break;
                    }
                    at = place.offset;
                    if budget.lines == 0 {
                        break;
                    }
                }
                end = at;
            }
            read.next = Some(Place { inode: page.inode, offset: end });
            if end > 0 {
                break;
            }
            let before = self.0.iter().take_while(|other| other.inode != page.inode).last();
            end = before.map_or(0, |before| before.length);
        }
        read.lines.reverse();
        Ok(read)
    }

    /// When the first and the last line were written.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn times(&self) -> io::Result<Option<(u64, u64)>> {
        let (Some(start), Some(end)) = (self.start(), self.end()) else { return Ok(None) };
        let first = self.forward(start, (1, 1), |_| true)?;
        let last = self.backward(end, (1, 1), |_| true)?;
        Ok(first.lines.first().zip(last.lines.first()).map(|(first, last)| (first.at, last.at)))
    }
}

/// Up to the end of the last whole line.
fn whole(file: &File, length: u64) -> io::Result<u64> {
    let begin = length.saturating_sub(LONGEST);
    let end = bytes(file, begin, length)?;
    let last = end.iter().rposition(|byte| *byte == b'\n');
    Ok(last.map_or(0, |last| begin + last as u64 + 1))
}

fn bytes(mut file: &File, begin: u64, end: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(end - begin).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whole lines that end at `end`, and where they begin; of a line that is too long, a part.
fn block_before(file: &File, end: u64) -> io::Result<(u64, Vec<u8>)> {
    let mut size = BLOCK;
    loop {
        let begin = end.saturating_sub(size);
        let block = bytes(file, begin, end)?;
        if begin == 0 || size >= LONGEST {
            return Ok((begin, block));
        }
        // The first line of the block may have begun before it.
        let first = block.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        match first.filter(|first| *first < block.len()) {
            Some(first) => return Ok((begin + first as u64, block[first..].to_vec())),
            None => size *= 2,
        }
    }
}

/// None: it does not begin with a time.
fn line(place: Place, text: &[u8]) -> Option<Line> {
    let text = String::from_utf8_lossy(text.strip_suffix(b"\n").unwrap_or(text));
    let at: jiff::Timestamp = stamp(&text)?.parse().ok()?;
    let message = text.get(STAMP + 1..).unwrap_or_default().to_owned();
    Some(Line { place, at: u64::try_from(at.as_millisecond()).ok()?, message })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// A stream of three files with the lines 1 to 9, the last without its end.
    fn written() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let path = super::super::path(directory.path(), "/g", "s/1");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for (number, lines) in [(2, 1..4), (1, 4..7), (0, 7..10)] {
            let mut text = String::new();
            for second in lines {
                writeln!(text, "2026-11-21T05:41:{second:02}.000000000Z line {second}").unwrap();
            }
            if number == 0 {
                text.push_str("2026-11-21T05:41:10.000000000Z not wh");
            }
            fs::write(numbered(&path, number), text).unwrap();
        }
        directory
    }

    fn shown(read: &Read) -> String {
        read.lines.iter().map(|line| line.message.replace("line ", "")).collect()
    }

    #[test]
    fn lines_are_read_once_forward_and_backward_over_files() {
        let directory = written();
        let pages = Pages::open(directory.path(), "/g", "s/1").unwrap();
        for most in 1..11 {
            let (mut place, mut all) = (pages.start().unwrap(), String::new());
            loop {
                let read = pages.forward(place, (most, 1 << 20), |_| true).unwrap();
                assert!(read.lines.len() <= most);
                all.push_str(&shown(&read));
                if read.next == Some(place) {
                    break;
                }
                place = read.next.unwrap();
            }
            assert_eq!((all.as_str(), Some(place)), ("123456789", pages.end()), "{most}");
            let mut back = String::new();
            loop {
                let read = pages.backward(place, (most, 1 << 20), |_| true).unwrap();
                back = shown(&read) + &back;
                if read.next == Some(place) {
                    break;
                }
                place = read.next.unwrap();
            }
            assert_eq!((back.as_str(), Some(place)), ("123456789", pages.start()), "{most}");
        }
    }

    #[test]
    fn only_what_is_wanted_counts_and_bytes_are_bounded() {
        let directory = written();
        let pages = Pages::open(directory.path(), "/g", "s/1").unwrap();
        let odd = |line: &Line| line.at % 2000 == 1000;
        let (start, end) = (pages.start().unwrap(), pages.end().unwrap());
        assert_eq!(shown(&pages.forward(start, (3, 100), odd).unwrap()), "135");
        assert_eq!(shown(&pages.backward(end, (3, 100), odd).unwrap()), "579");
        // Each message has six bytes.
        assert_eq!(shown(&pages.forward(start, (9, 13), |_| true).unwrap()), "12");
        assert_eq!(shown(&pages.forward(start, (9, 1), |_| true).unwrap()), "1");
        assert_eq!(shown(&pages.backward(end, (9, 13), |_| true).unwrap()), "89");
    }

    #[test]
    fn places_outlive_the_turning_over_of_files() {
        let directory = written();
        let path = super::super::path(directory.path(), "/g", "s/1");
        let pages = Pages::open(directory.path(), "/g", "s/1").unwrap();
        let place = pages.forward(pages.start().unwrap(), (5, 100), |_| true).unwrap().next;
        for number in (0..3).rev() {
            fs::rename(numbered(&path, number), numbered(&path, number + 1)).unwrap();
        }
        let pages = Pages::open(directory.path(), "/g", "s/1").unwrap();
        let read = pages.forward(place.unwrap(), (9, 100), |_| true).unwrap();
        assert_eq!(shown(&read), "6789");
        let gone = Place { inode: 1, offset: 77 };
        assert_eq!(shown(&pages.forward(gone, (2, 100), |_| true).unwrap()), "12");
    }

    #[test]
    fn groups_and_streams_are_listed_made_and_removed() {
        let directory = written();
        let root = directory.path();
        let names = |found: Vec<Found>| found.into_iter().map(|f| f.name).collect::<Vec<_>>();
        assert_eq!(names(groups(root).unwrap()), ["/g"]);
        assert!(create(root, "/g", "new").unwrap() && !create(root, "/g", "new").unwrap());
        assert_eq!(names(streams(root, "/g").unwrap()), ["new", "s/1"]);
        let times = Pages::open(root, "/g", "s/1").unwrap().times().unwrap().unwrap();
        assert_eq!(times.1 - times.0, 8000);
        assert_eq!(Pages::open(root, "/g", "new").unwrap().times().unwrap(), None);
        assert!(remove(root, "/g", "s/1").unwrap() && !remove(root, "/g", "s/1").unwrap());
        assert_eq!(names(streams(root, "/g").unwrap()), ["new"]);
        remove_group(root, "/g").unwrap();
        remove_group(root, "/g").unwrap();
        assert_eq!(names(groups(root).unwrap()).len(), 0);
    }
}
