//! Log events: of one stream either way, or of a group through a filter.
//!
//! **Invariant:** a token is a place between two lines: following it gives every event once.

use serde::Deserialize;
use serde_json::{Value, json};

use super::pattern::Pattern;
use super::{blocking, group, limit, missing, named, on_disk};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::runtime::streams::reading::{self, Line, Pages, Place, SCAN};

/// Events of one answer, and bytes of their messages (CloudWatch's).
const EVENTS: usize = 10_000;
const BYTES: usize = 1 << 20;

/// The times that events may have.
#[derive(Clone, Copy)]
struct Span {
    from: Option<i64>,
    /// Not in it.
    to: Option<i64>,
}

impl Span {
    fn has(self, line: &Line) -> bool {
        let at = i64::try_from(line.at).unwrap_or(i64::MAX);
        self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at < to)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Get {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name: String,
    start_time: Option<i64>,
    end_time: Option<i64>,
    next_token: Option<String>,
    limit: Option<i64>,
    start_from_head: Option<bool>,
}

/// `f/INODE.OFFSET`, `b/INODE.OFFSET`
fn token(direction: char, place: Place) -> String {
    format!("{direction}/{}.{}", place.inode, place.offset)
}

fn bad_token() -> Error {
    Error::invalid("The specified nextToken is invalid.")
}

fn place(text: &str) -> Result<Place, Error> {
    let parts = text.split_once('.');
    let place = parts.and_then(|(inode, offset)| {
        Some(Place { inode: inode.parse().ok()?, offset: offset.parse().ok()? })
    });
    place.ok_or_else(bad_token)
}

pub(super) async fn get(call: &Call, input: Input) -> Outcome {
    let asked: Get = input.read()?;
    let (name, arn) = (asked.log_group_name.as_deref(), asked.log_group_identifier.as_deref());
    let group = named(call.account(), name, arn)?;
    let most = limit("limit", asked.limit, EVENTS)?;
    let span = Span { from: asked.start_time, to: asked.end_time };
    let start = match asked.next_token.as_deref() {
        None => Ok((asked.start_from_head == Some(true), None)),
        Some(token) => match token.split_once('/') {
            Some(("f", rest)) => place(rest).map(|place| (true, Some(place))),
            Some(("b", rest)) => place(rest).map(|place| (false, Some(place))),
            _ => Err(bad_token()),
        },
    };
    let (forward, from) = start?;
    group::check(call, &group).await?;
    let group = on_disk(&group);
    let (root, stream) = (call.api.log_folder.clone(), asked.log_stream_name);
    let read = move || {
        let pages = Pages::open(&root, &group, &stream)?;
        let (Some(start), Some(end)) = (pages.start(), pages.end()) else { return Ok(None) };
        let from = from.unwrap_or(if forward { start } else { end });
        let size = (most, BYTES);
        let read = match forward {
            true => pages.forward(from, size, |line| span.has(line))?,
            false => pages.backward(from, size, |line| span.has(line))?,
        };
        let reached = read.next.unwrap_or(from);
        let (back, ahead) = if forward { (from, reached) } else { (reached, from) };
        Ok(Some((read.lines, back, ahead)))
    };
    let found = blocking(read).await?.ok_or_else(|| missing("log stream"))?;
    let (lines, back, ahead) = found;
    let events: Vec<_> = lines.iter().map(event).collect();
    Ok(json!({
        "events": events,
        "nextForwardToken": token('f', ahead),
        "nextBackwardToken": token('b', back),
    }))
}

fn event(line: &Line) -> Value {
    json!({ "timestamp": line.at, "message": line.message, "ingestionTime": line.at })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    #[serde(default)]
    log_stream_names: Vec<String>,
    log_stream_name_prefix: Option<String>,
    start_time: Option<i64>,
    end_time: Option<i64>,
    filter_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
    start_from_head: Option<bool>,
}

/// What one filtering call found.
#[derive(Default)]
struct Found {
    /// With their streams' names.
    events: Vec<(String, Line)>,
    /// Where the next call goes on.
    next: Option<(String, Place)>,
}

pub(super) async fn filter(call: &Call, input: Input) -> Outcome {
    let asked: Filter = input.read()?;
    let (name, arn) = (asked.log_group_name.as_deref(), asked.log_group_identifier.as_deref());
    let group = named(call.account(), name, arn)?;
    let most = limit("limit", asked.limit, EVENTS)?;
    if asked.start_from_head == Some(false) {
        return Err(Error::unsupported("startFromHead: false is not supported here"));
    }
    if asked.log_stream_name_prefix.is_some() && !asked.log_stream_names.is_empty() {
        return Err(Error::invalid(
            "logStreamNames and logStreamNamePrefix are mutually exclusive parameters",
        ));
    }
    let pattern = asked.filter_pattern.as_deref().unwrap_or_default();
    let pattern = Pattern::parse(pattern).map_err(Error::invalid)?;
    let span = Span { from: asked.start_time, to: asked.end_time };
    // `INODE.OFFSET/STREAM`: names may hold any character.
    let from = asked.next_token.as_deref().map(|token| {
        let (at, stream) = token.split_once('/').ok_or_else(bad_token)?;
        Ok::<_, Error>((stream.to_owned(), place(at)?))
    });
    let from = from.transpose()?;
    group::check(call, &group).await?;
    let (root, group) = (call.api.log_folder.clone(), on_disk(&group));
    let (names, prefix) =
        (asked.log_stream_names, asked.log_stream_name_prefix.unwrap_or_default());
    let read = move || {
        let mut streams = reading::streams(&root, &group)?;
        // The file's last change is no earlier than its last line.
        let too_old = |modified: u64| {
            span.from.is_some_and(|from| i64::try_from(modified).is_ok_and(|at| at < from))
        };
        streams.retain(|stream| {
            (names.is_empty() || names.contains(&stream.name))
                && stream.name.starts_with(&prefix)
                && !too_old(stream.modified)
        });
        let wants = |line: &Line| span.has(line) && pattern.matches(&line.message);
        let streams = streams.into_iter().map(|stream| stream.name);
        search(streams, from, most, |stream, from, size| {
            let pages = Pages::open(&root, &group, stream)?;
            let Some(start) = pages.start() else { return Ok(None) };
            let read = pages.forward(from.unwrap_or(start), size, wants)?;
            let is_whole = read.next == pages.end();
            Ok(Some((read, is_whole)))
        })
    };
    let mut found = blocking(read).await?;
    found.events.sort_by_key(|(_, line)| line.at);
    let shown = found.events.iter().map(|(stream, line)| {
        let mut shown = event(line);
        shown["logStreamName"] = stream.as_str().into();
        shown["eventId"] = format!("{:020}{:020}", line.place.inode, line.place.offset).into();
        shown
    });
    let next = found.next.map(|(stream, at)| format!("{}.{}/{stream}", at.inode, at.offset));
    Ok(json!({
        "events": shown.collect::<Vec<_>>(),
        "searchedLogStreams": [],
        "nextToken": next,
    }))
}

/// What was read of a stream, and whether that is all of it.
type Whole = (reading::Read, bool);

/// Reads streams one after the other until there is enough; `None` of `read` is a stream that is
/// gone.
fn search(
    streams: impl Iterator<Item = String>,
    from: Option<(String, Place)>,
    most: usize,
    read: impl Fn(&str, Option<Place>, (usize, usize)) -> std::io::Result<Option<Whole>>,
) -> std::io::Result<Found> {
    let mut found = Found::default();
    let (mut bytes, mut scanned) = (BYTES, 0);
    let begun = from.as_ref().map(|(stream, _)| stream.clone()).unwrap_or_default();
    for stream in streams.filter(|stream| *stream >= begun) {
        let start = from.as_ref().filter(|(name, _)| *name == stream).map(|(_, at)| *at);
        let left = most - found.events.len();
        if left == 0 || bytes == 0 || scanned >= SCAN {
            // Another stream is left, from its beginning on.
            found.next = Some((stream, start.unwrap_or(Place { inode: 0, offset: 0 })));
            return Ok(found);
        }
        let Some((page, is_whole)) = read(&stream, start, (left, bytes))? else { continue };
        let taken: usize = page.lines.iter().map(|line| line.message.len()).sum();
        bytes = bytes.saturating_sub(taken);
        let offset = page.next.map_or(0, |next| next.offset);
        scanned += offset.saturating_sub(start.map_or(0, |start| start.offset));
        found.events.extend(page.lines.into_iter().map(|line| (stream.clone(), line)));
        if !is_whole {
            found.next = page.next.map(|next| (stream, next));
            return Ok(found);
        }
    }
    Ok(found)
}
