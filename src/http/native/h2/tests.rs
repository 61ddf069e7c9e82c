//! The protocol without a socket: frames in, frames out.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::task::{Context, Poll, Waker};

use h2::Reason;
use proptest::prelude::*;

use super::super::super::head::PREFACE;
use super::frame::{self, Frame};
use super::wire::{Opened, PARTING_PING, ROOM, Shared, Wire};
use super::{CONNECTION_WINDOW, CONTINUATIONS, FORCED_RESETS, HEADER_LIST, STREAM_WINDOW, STREAMS};
use crate::clock;

/// GET, http, /, authority "t".
const GET: [u8; 6] = [0x82, 0x86, 0x84, 0x41, 1, b't'];
/// POST, the same.
const POST: [u8; 6] = [0x83, 0x86, 0x84, 0x41, 1, b't'];
const SETTINGS: (u8, u8, u32, &[u8]) = (frame::SETTINGS, 0, 0, &[]);

/// Kind, flags, stream, payload.
type Sent<'a> = (u8, u8, u32, &'a [u8]);

fn bytes(frames: &[Sent<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, flags, stream, payload) in frames {
        frame::write(*kind, *flags, *stream, payload, &mut out);
    }
    out
}

fn get(stream: u32) -> Sent<'static> {
    (frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, stream, &GET)
}

fn post(stream: u32) -> Sent<'static> {
    (frame::HEADERS, frame::END_HEADERS, stream, &POST)
}

/// A connection whose preface and settings have come, and whose own were sent.
struct Peer {
    wire: Wire,
}

impl Peer {
    fn new() -> Self {
        let mut peer = Self { wire: Wire::new(clock::instant()) };
        let begin = [PREFACE, &bytes(&[SETTINGS])].concat();
        assert_eq!(peer.take(&begin), Ok(begin.len()));
        let settings = "SETTINGS 0: 4; WINDOW_UPDATE 0: 983041; SETTINGS 0 ACK: 0; ";
        assert_eq!(peer.said(), settings);
        peer
    }

    fn take(&mut self, bytes: &[u8]) -> Result<usize, Reason> {
        let now = clock::instant();
        self.wire.take(bytes, || now)
    }

    /// Takes frames that are in order.
    fn hears(&mut self, frames: &[Sent<'_>]) -> String {
        let bytes = bytes(frames);
        assert_eq!(self.take(&bytes), Ok(bytes.len()), "{frames:?}");
        self.said()
    }

    /// What was said since it was asked last.
    fn said(&mut self) -> String {
        let said = show(self.wire.unsent());
        let count = self.wire.unsent().len();
        self.wire.took(count);
        said
    }

    fn opened(&mut self) -> Opened {
        self.wire.opened.pop().unwrap()
    }
}

/// Frames as text: kind, stream, what matters of the rest.
fn show(mut bytes: &[u8]) -> String {
    let mut text = String::new();
    while let Some(frame) = Frame::first(bytes).unwrap() {
        bytes = &bytes[frame.size()..];
        let number = |from: usize| {
            let bytes = frame.payload[from..].first_chunk().unwrap();
            u32::from_be_bytes(*bytes)
        };
        let (name, rest) = match frame.kind {
            frame::DATA => ("DATA", frame.payload.len().to_string()),
            frame::HEADERS => ("HEADERS", frame.payload.escape_ascii().to_string()),
            frame::RST_STREAM => ("RST_STREAM", format!("{:?}", Reason::from(number(0)))),
            frame::SETTINGS => ("SETTINGS", (frame.payload.len() / 6).to_string()),
            frame::PING => ("PING", frame.payload.escape_ascii().to_string()),
            frame::GOAWAY => ("GOAWAY", format!("{} {:?}", number(0), Reason::from(number(4)))),
            frame::WINDOW_UPDATE => ("WINDOW_UPDATE", number(0).to_string()),
            other => panic!("{other}"),
        };
        let flag = match frame.kind {
            frame::SETTINGS | frame::PING if frame.has(frame::ACK) => " ACK",
            frame::DATA | frame::HEADERS if frame.has(frame::END_STREAM) => " END",
            _ => "",
        };
        write!(text, "{name} {}{flag}: {rest}; ", frame.stream).unwrap();
    }
    assert!(bytes.is_empty());
    text
}

#[test]
fn what_breaks_the_connection_ends_it() {
    let large = vec![0; frame::MOST + 1];
    let window = |value: u32| [&[0, 4][..], &value.to_be_bytes()].concat();
    let (wide, size) = (window(0x8000_0000), [0, 5, 0, 0, 0x3f, 0xff]);
    let whole = [0x7f, 0xff, 0xff, 0xff];
    let piece = vec![0x40; frame::MOST];
    let endless = vec![(frame::CONTINUATION, 0, 1, &[][..]); CONTINUATIONS];
    let long = vec![(frame::CONTINUATION, 0, 1, &piece[..]); HEADER_LIST / frame::MOST + 1];
    let head = (frame::HEADERS, 0, 1, &GET[..]);
    for (frames, reason) in [
        (vec![(frame::DATA, 0, 0, &b"x"[..])], Reason::PROTOCOL_ERROR),
        (vec![(frame::DATA, 0, 1, b"x")], Reason::PROTOCOL_ERROR),
        (vec![post(1), (frame::DATA, frame::PADDED, 1, &[1])], Reason::PROTOCOL_ERROR),
        (vec![post(1), (frame::DATA, 0, 1, &large)], Reason::FRAME_SIZE_ERROR),
        (vec![get(0)], Reason::PROTOCOL_ERROR),
        (vec![get(2)], Reason::PROTOCOL_ERROR),
        (vec![get(3), get(1)], Reason::STREAM_CLOSED),
        (vec![(frame::PRIORITY, 0, 1, &[0; 4])], Reason::FRAME_SIZE_ERROR),
        (vec![(frame::GOAWAY, 0, 0, &[0; 7])], Reason::FRAME_SIZE_ERROR),
        (vec![(frame::HEADERS, frame::END_HEADERS, 1, &[0xff])], Reason::COMPRESSION_ERROR),
        (vec![(frame::HEADERS, 4 | frame::WITH_PRIORITY, 1, &[0; 4])], Reason::FRAME_SIZE_ERROR),
        (vec![(frame::CONTINUATION, 4, 1, &GET)], Reason::PROTOCOL_ERROR),
        (vec![head, get(3)], Reason::PROTOCOL_ERROR),
        (vec![head, (frame::CONTINUATION, 4, 3, &[])], Reason::PROTOCOL_ERROR),
        (vec![head, SETTINGS], Reason::PROTOCOL_ERROR),
        ([&[head][..], &endless].concat(), Reason::ENHANCE_YOUR_CALM),
        ([&[head][..], &long].concat(), Reason::ENHANCE_YOUR_CALM),
        (vec![(frame::RST_STREAM, 0, 0, &[0; 4])], Reason::PROTOCOL_ERROR),
        (vec![(frame::RST_STREAM, 0, 1, &[0; 4])], Reason::PROTOCOL_ERROR),
        (vec![get(1), (frame::RST_STREAM, 0, 1, &[0; 3])], Reason::FRAME_SIZE_ERROR),
        (vec![(frame::SETTINGS, 0, 1, &[])], Reason::PROTOCOL_ERROR),
        (vec![(frame::SETTINGS, 0, 0, &[0; 5])], Reason::FRAME_SIZE_ERROR),
        (vec![(frame::SETTINGS, frame::ACK, 0, &[0; 6])], Reason::FRAME_SIZE_ERROR),
        (vec![(frame::SETTINGS, 0, 0, &wide)], Reason::FLOW_CONTROL_ERROR),
        (vec![(frame::SETTINGS, 0, 0, &size)], Reason::PROTOCOL_ERROR),
        (vec![(frame::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2])], Reason::PROTOCOL_ERROR),
        (vec![(frame::PUSH_PROMISE, 4, 1, &[0; 8])], Reason::PROTOCOL_ERROR),
        (vec![(frame::PING, 0, 1, &[0; 8])], Reason::PROTOCOL_ERROR),
        (vec![(frame::PING, 0, 0, &[0; 7])], Reason::FRAME_SIZE_ERROR),
        (vec![(frame::GOAWAY, 0, 1, &[0; 8])], Reason::PROTOCOL_ERROR),
        (vec![(frame::WINDOW_UPDATE, 0, 0, &[0; 4])], Reason::PROTOCOL_ERROR),
        (vec![(frame::WINDOW_UPDATE, 0, 0, &[0; 3])], Reason::FRAME_SIZE_ERROR),
        (vec![(frame::WINDOW_UPDATE, 0, 0, &whole)], Reason::FLOW_CONTROL_ERROR),
        (vec![(frame::WINDOW_UPDATE, 0, 1, &whole)], Reason::PROTOCOL_ERROR),
    ] {
        let mut peer = Peer::new();
        assert_eq!(peer.take(&bytes(&frames)), Err(reason), "{frames:?}");
    }
    let fresh = || Peer { wire: Wire::new(clock::instant()) };
    assert_eq!(fresh().take(b"GET / HTTP"), Err(Reason::PROTOCOL_ERROR));
    let unset = [PREFACE, &bytes(&[(frame::PING, 0, 0, &[0; 8])])].concat();
    assert_eq!(fresh().take(&unset), Err(Reason::PROTOCOL_ERROR));
}

#[test]
fn what_breaks_a_stream_ends_it_alone_until_it_is_too_often() {
    let whole = [0x7f, 0xff, 0xff, 0xff];
    let sized = |length: u8| [&POST[..], &[0x0f, 13, 1, b'0' + length]].concat();
    let (two, full) = (sized(2), vec![0; frame::MOST]);
    let two = (frame::HEADERS, frame::END_HEADERS, 1, &two[..]);
    let too_much = [&[post(1)][..], &[(frame::DATA, 0, 1, &full[..]); 4]].concat();
    for (frames, reason) in [
        (vec![(frame::HEADERS, 5, 1, &GET[..3])], "NO"),
        (vec![(frame::HEADERS, 5, 1, &GET[1..])], "PROTOCOL_ERROR"),
        (vec![get(1), (frame::DATA, 0, 1, b"x")], "STREAM_CLOSED"),
        (vec![post(1), post(1)], "PROTOCOL_ERROR"),
        (vec![post(1), get(1)], "PROTOCOL_ERROR"),
        (vec![two, (frame::DATA, 1, 1, b"x")], "PROTOCOL_ERROR"),
        (vec![two, (frame::DATA, 0, 1, b"xxx")], "PROTOCOL_ERROR"),
        (vec![two, (frame::DATA, 1, 1, b"xx")], "NO"),
        (vec![post(1), (frame::WINDOW_UPDATE, 0, 1, &[0; 4])], "PROTOCOL_ERROR"),
        (vec![post(1), (frame::WINDOW_UPDATE, 0, 1, &whole)], "FLOW_CONTROL_ERROR"),
        (too_much, "FLOW_CONTROL_ERROR"),
        (vec![get(1), (frame::PRIORITY, 0, 1, &[0; 4])], "FRAME_SIZE_ERROR"),
        (vec![get(1), get(1)], "STREAM_CLOSED"),
    ] {
        let mut peer = Peer::new();
        let said = peer.hears(&frames);
        let expected = format!("RST_STREAM 1: {reason}; ");
        assert_eq!(said, if reason == "NO" { "" } else { &expected }, "{frames:?}");
        let others = peer.hears(&[get(3), (frame::PING, 0, 0, b"12345678")]);
        assert_eq!(others, "PING 0 ACK: 12345678; ", "{frames:?}");
    }
    let mut peer = Peer::new();
    let last = 2 * u32::try_from(FORCED_RESETS).unwrap() + 1;
    for stream in (1..last).step_by(2) {
        peer.hears(&[(frame::HEADERS, 5, stream, &GET[1..])]);
    }
    let end = peer.take(&bytes(&[(frame::HEADERS, 5, last, &GET[1..])]));
    assert_eq!(end, Err(Reason::ENHANCE_YOUR_CALM));
}

#[test]
fn what_crosses_the_end_of_a_stream_is_nothing() {
    let mut peer = Peer::new();
    peer.hears(&[post(1)]);
    let at = peer.opened().at;
    peer.wire.reset(at, Reason::CANCEL);
    peer.wire.slots.remove(at);
    assert_eq!(peer.said(), "RST_STREAM 1: CANCEL; ");
    let trailers = [0, 1, b'a', 1, b'b'];
    let crossing = [
        (frame::DATA, 0, 1, &b"x"[..]),
        (frame::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
        (frame::HEADERS, 5, 1, &trailers),
        (frame::RST_STREAM, 0, 1, &[0; 4]),
        (0xfa, 0, 1, b"what nobody knows"),
        (frame::GOAWAY, 0, 0, &[0; 8]),
    ];
    assert_eq!(peer.hears(&crossing), "");
}

#[test]
fn more_streams_than_we_take_are_refused_and_places_are_free_again() {
    let mut peer = Peer::new();
    for number in 0..STREAMS {
        assert_eq!(peer.hears(&[get(2 * number + 1)]), "");
    }
    let next = 2 * STREAMS + 1;
    assert_eq!(peer.hears(&[get(next)]), format!("RST_STREAM {next}: REFUSED_STREAM; "));
    let at = peer.wire.slots.find(7).unwrap();
    peer.wire.send_section(at, &[0x88], true);
    // Its exchange has not let go of it yet.
    assert_eq!(peer.hears(&[get(next + 2)]), "HEADERS 7 END: \\x88; ");
    peer.hears(&[(frame::RST_STREAM, 0, 9, &[0; 4])]);
    assert_eq!(peer.hears(&[get(next + 4)]), "");
}

#[test]
fn a_parting_is_told_twice() {
    let mut peer = Peer::new();
    peer.hears(&[get(1)]);
    peer.wire.part();
    let told = format!("GOAWAY 0: {} NO_ERROR; PING 0: parting.; ", 0x7fff_ffff);
    assert_eq!(peer.said(), told);
    // It crossed the first, and is answered; behind the answer nothing is.
    let acknowledged = (frame::PING, frame::ACK, 0, &PARTING_PING[..]);
    let behind = [post(5), (frame::DATA, 0, 5, b"x"), (frame::RST_STREAM, 0, 5, &[0; 4])];
    let said = peer.hears(&[&[get(3), acknowledged][..], &behind].concat());
    assert_eq!(said, "GOAWAY 0: 3 NO_ERROR; ");
    assert_eq!(peer.wire.opened.len(), 2);
    assert!(!peer.wire.is_parted());
    for at in 0..2 {
        peer.wire.send_section(at, &[0x88], true);
    }
    assert!(!peer.wire.is_parted(), "it is not sent");
    peer.said();
    assert!(peer.wire.is_parted());
    peer.wire.cut(Reason::NO_ERROR);
    assert_eq!(peer.said(), "GOAWAY 0: 3 NO_ERROR; ");
}

#[test]
fn a_smaller_table_is_acknowledged_in_the_next_section() {
    let mut peer = Peer::new();
    peer.hears(&[get(1), (frame::SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0])]);
    peer.wire.send_section(0, &[0x88], false);
    assert_eq!(peer.said(), "HEADERS 1:  \\x88; ", "0x20 is a space");
    peer.wire.send_section(0, &[0x89], false);
    assert_eq!(peer.said(), "HEADERS 1: \\x89; ");
}

#[test]
fn windows_are_opened_again_as_bodies_are_taken() {
    let mut peer = Peer::new();
    let full = vec![7; frame::MOST];
    peer.hears(&[post(1), (frame::DATA, 0, 1, &full), (frame::DATA, 0, 1, &full)]);
    let wire = &mut peer.wire;
    assert_eq!(wire.slots.get(0).unread().len(), 2 * frame::MOST);
    wire.release(0, frame::MOST);
    assert_eq!(peer.said(), "");
    peer.wire.release(0, frame::MOST);
    assert_eq!(peer.said(), "WINDOW_UPDATE 1: 32768; ");
    // Padding is taken at once: nobody else does.
    let mut padded = vec![0; 256];
    padded[0] = 255;
    let frames = vec![(frame::DATA, frame::PADDED, 1, &padded[..]); 128];
    assert_eq!(peer.hears(&frames), "WINDOW_UPDATE 1: 32768; ");
    assert!(peer.wire.slots.get(0).unread().len() == 2 * frame::MOST);
}

#[test]
fn streams_that_wait_for_the_connection_take_turns() {
    let cx = Context::from_waker(Waker::noop());
    let mut peer = Peer::new();
    let wide = [0, 4, 0x7f, 0xff, 0xff, 0xff];
    peer.hears(&[(frame::SETTINGS, 0, 0, &wide), get(1), get(3), get(5)]);
    let wire = &mut peer.wire;
    while let Poll::Ready(room) = wire.poll_room(0, &cx) {
        wire.send_data(0, &vec![0; room], false);
    }
    assert_eq!(wire.may_send, 0);
    assert!(wire.poll_room(1, &cx).is_pending() && wire.poll_room(2, &cx).is_pending());
    assert!(wire.poll_room(1, &cx).is_pending(), "it has its place already");
    peer.said();
    for turn in [0, 1, 2, 0, 1] {
        peer.hears(&[(frame::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 9])]);
        let wire = &mut peer.wire;
        assert!(wire.wake_next());
        assert_eq!(wire.poll_room(turn, &cx), Poll::Ready(9));
        wire.send_data(turn, &[0; 9], false);
        assert!(!wire.wake_next(), "nothing is left");
        assert!(wire.poll_room(turn, &cx).is_pending());
    }
    // What waits for the socket is bounded, too.
    peer.hears(&[(frame::WINDOW_UPDATE, 0, 0, &[0, 0x10, 0, 0])]);
    let wire = &mut peer.wire;
    while let Poll::Ready(room) = wire.poll_room(2, &cx) {
        wire.send_data(2, &vec![0; room], false);
    }
    assert!((ROOM..ROOM + 2 * frame::MOST).contains(&wire.unsent().len()));
    assert!(!wire.is_stuffed() && wire.poll_place(0, &cx).is_pending());
}

#[test]
fn heads_wait_for_the_socket_alone() {
    let cx = Context::from_waker(Waker::noop());
    let mut peer = Peer::new();
    peer.hears(&[get(1), get(3)]);
    let wire = &mut peer.wire;
    while let Poll::Ready(room) = wire.poll_room(0, &cx) {
        wire.send_data(0, &vec![0; room], false);
    }
    assert_eq!(wire.may_send, 0);
    assert!(wire.poll_place(1, &cx).is_pending() && !wire.wake_next());
    peer.said();
    assert!(peer.wire.wake_next() && peer.wire.poll_place(1, &cx).is_ready());
}

#[test]
fn a_lease_that_ends_says_so() {
    let shared = Shared::new(clock::instant());
    let begin = [PREFACE, &bytes(&[SETTINGS, post(1), post(3), get(5)])].concat();
    shared.lock().take(&begin, clock::instant).unwrap();
    let leases: Vec<_> = (0..3).map(|at| shared.lease(at)).collect();
    let mut wire = shared.lock();
    let count = wire.unsent().len();
    wire.took(count);
    wire.send_section(1, &[0x88], true);
    wire.send_section(2, &[0x88], true);
    drop(wire);
    drop(leases);
    let wire = shared.lock();
    let said = show(wire.unsent());
    let responses = "HEADERS 3 END: \\x88; HEADERS 5 END: \\x88; ";
    assert_eq!(said, format!("{responses}RST_STREAM 1: CANCEL; RST_STREAM 3: NO_ERROR; "));
    assert_eq!(wire.slots.open(), 0);
}

/// What a client, or an exchange of ours, may do next; the numbers are taken as they fit.
#[derive(Clone, Debug)]
enum Step {
    Frame(u8, u8, u32, Vec<u8>),
    Bytes(Vec<u8>),
    Send(usize, usize, bool),
    Take(usize, usize),
    Leave(usize),
    Write(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let payload = prop_oneof![
        Just(GET.to_vec()),
        Just(POST.to_vec()),
        (0u32..100_000).prop_map(|number| number.to_be_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
        (0usize..frame::MOST).prop_map(|length| vec![0; length]),
        (0u32..200_000).prop_map(|size| [&[0, 4][..], &size.to_be_bytes()].concat()),
    ];
    let flags = prop_oneof![Just(0), Just(1), Just(4), Just(5), any::<u8>()];
    prop_oneof![
        8 => (0u8..11, flags, 0u32..14, payload).prop_map(|(a, b, c, d)| Step::Frame(a, b, c, d)),
        1 => prop::collection::vec(any::<u8>(), 0..30).prop_map(Step::Bytes),
        3 => (0usize..6, 0usize..40_000, any::<bool>()).prop_map(|(a, b, c)| Step::Send(a, b, c)),
        3 => (0usize..6, 0usize..40_000).prop_map(|(at, count)| Step::Take(at, count)),
        1 => (0usize..6).prop_map(Step::Leave),
        2 => (0usize..200_000).prop_map(Step::Write),
    ]
}

proptest! {
    /// Whatever comes, in whatever order: no panic, no more kept than allowed, no more sent than
    /// the client lets us, and all of what it may send accounted for.
    #[test]
    fn no_client_makes_it_break_its_bounds(steps in prop::collection::vec(step(), 1..120)) {
        let cx = Context::from_waker(Waker::noop());
        let mut peer = Peer::new();
        let mut rest = Vec::new();
        let mut held = HashMap::new();
        for step in steps {
            match step {
                Step::Frame(kind, flags, stream, payload) => {
                    rest.extend(bytes(&[(kind, flags, stream, &payload)]));
                }
                Step::Bytes(bytes) if rest.is_empty() => rest = bytes,
                Step::Bytes(_) => {}
                Step::Send(at, count, ends) if held.contains_key(&at) => {
                    if let Poll::Ready(room) = peer.wire.poll_room(at, &cx) {
                        prop_assert!(0 < room && room <= frame::MOST);
                        let before = (peer.wire.may_send, peer.wire.slots.get(at).may_send);
                        peer.wire.send_data(at, &vec![0; count.min(room)], ends);
                        let after = (peer.wire.may_send, peer.wire.slots.get(at).may_send);
                        prop_assert!(after <= before && after.0 >= 0 && after.1 >= 0);
                    }
                }
                Step::Take(at, count) if held.contains_key(&at) => {
                    let slot = peer.wire.slots.get(at);
                    let count = count.min(slot.unread().len());
                    slot.taken += count;
                    peer.wire.release(at, count);
                }
                Step::Leave(at) if held.remove(&at).is_some() => peer.wire.leave(at),
                Step::Send(..) | Step::Take(..) | Step::Leave(_) => {}
                Step::Write(count) => {
                    let count = count.min(peer.wire.unsent().len());
                    peer.wire.took(count);
                }
            }
            match peer.take(&rest) {
                Ok(count) => _ = rest.drain(..count),
                Err(reason) => {
                    peer.wire.cut(reason);
                    break;
                }
            }
            for Opened { at, section, .. } in peer.wire.opened.drain(..) {
                prop_assert!(held.insert(at, section).is_none(), "a place is taken twice");
            }
            prop_assert!(peer.wire.slots.open() <= held.len().min(STREAMS as usize));
            let mut unread = 0;
            for at in held.keys() {
                let kept = peer.wire.slots.get(*at).unread().len();
                prop_assert!(kept <= STREAM_WINDOW as usize);
                unread += i64::try_from(kept).unwrap();
            }
            let most = i64::from(CONNECTION_WINDOW);
            let account = peer.wire.may_receive + peer.wire.untold() + unread;
            prop_assert_eq!(account, most, "what the client may send, has sent, and we have taken");
        }
    }
}
