//! What is said on a session's data channel, as one side of it: the far one of the client.
//!
//! Not here: the socket, the command. Both sides number what they stream and acknowledge what they
//! got; what is not acknowledged is sent again. A client takes what the command says only once its
//! terminal stands, and says nothing of what came before. **Invariant:** at most [`WINDOW`]
//! messages are not acknowledged; input is acknowledged only when somebody has taken it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::frame::{ACKNOWLEDGE, ALONE, Bad, CLOSED, Frame, INPUT, OUTPUT, payload};
use crate::clock::Timestamp;
use crate::runtime::{Input, Size};

/// Messages on their way to the client (ours).
const WINDOW: usize = 64;
/// What is not acknowledged is sent again after this (the plugin's own first wait), which doubles
/// up to [`LATEST`].
const FIRST: Duration = Duration::from_millis(200);
/// The plugin's longest wait.
const LATEST: Duration = Duration::from_secs(1);
/// A client that acknowledges nothing for so long is gone (the agent's: 3,000 times in 5 minutes).
pub(super) const SILENCE: Duration = Duration::from_secs(300);
/// The agent that clients think they speak to: from 2.3.722 on they end sessions by a flag.
const AGENT: &str = "3.3.0.0";
/// The flag that ends a session.
const TERMINATE: [u8; 4] = [0, 0, 0, 2];

/// Both clocks: messages carry the one, waits go by the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) wall: Timestamp,
    pub(super) instant: Instant,
}

#[derive(Debug)]
pub(super) struct Channel {
    rng: fastrand::Rng,
    greeted: Instant,
    /// The client has answered the handshake.
    is_open: bool,
    /// The number of the next message from the client.
    expected: i64,
    /// The number of the next message to it.
    next: i64,
    sent: VecDeque<Sent>,
}

#[derive(Debug)]
struct Sent {
    sequence: i64,
    wire: Bytes,
    first: Instant,
    last: Instant,
    wait: Duration,
}

/// What a message comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    /// The handshake is over: the command may start.
    Open,
    Input(Input),
    /// The client ends the session.
    End,
}

/// A client that cannot be served.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Frame(#[from] Bad),
    #[error("the client did not take part in the handshake")]
    Handshake,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Acknowledged {
    acknowledged_message_sequence_number: i64,
}

#[derive(Deserialize)]
struct Sized {
    cols: u32,
    rows: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Response {
    #[serde(default)]
    processed_client_actions: Vec<Processed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Processed {
    action_type: String,
    /// 1: done.
    action_status: u32,
}

impl Channel {
    /// With the message that opens it.
    pub(super) fn new(rng: fastrand::Rng, now: Now) -> (Self, Bytes) {
        let (greeted, sent) = (now.instant, VecDeque::new());
        let mut own = Self { rng, greeted, is_open: false, expected: 0, next: 0, sent };
        let request = json!({
            "AgentVersion": AGENT,
            "RequestedClientActions": [{
                "ActionType": "SessionType",
                "ActionParameters": { "SessionType": "InteractiveCommands", "Properties": null },
            }],
        });
        let wire = own.stream(payload::REQUEST, request.to_string().into(), now);
        (own, wire)
    }

    /// What the command says, as a message.
    pub(super) fn say(&mut self, bytes: Bytes, now: Now) -> Bytes {
        self.stream(payload::BYTES, bytes, now)
    }

    /// Whether the client keeps up.
    pub(super) fn has_room(&self) -> bool {
        self.sent.len() < WINDOW
    }

    /// Whether it has everything.
    pub(super) fn is_quiet(&self) -> bool {
        self.sent.is_empty()
    }

    /// When something is to be sent again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.sent.front().map(|sent| sent.last + sent.wait)
    }

    /// The oldest message that is not acknowledged, once more. None: the client is gone.
    pub(super) fn again(&mut self, now: Now) -> Option<Bytes> {
        let oldest = self.sent.front_mut()?;
        if now.instant.duration_since(oldest.first) >= SILENCE {
            return None;
        }
        oldest.last = now.instant;
        oldest.wait = (oldest.wait * 2).min(LATEST);
        Some(oldest.wire.clone())
    }

    /// Takes a message; what it comes to, and what is to be answered. Input is left to be sent
    /// again where there is no `room` for it.
    ///
    /// # Errors
    /// It is no message, or no answer to the handshake.
    pub(super) fn hear(
        &mut self,
        wire: &Bytes,
        room: bool,
        now: Now,
    ) -> Result<(Heard, Vec<Bytes>), Failure> {
        let frame = Frame::read(wire)?;
        match frame.kind.as_str() {
            INPUT => {}
            ACKNOWLEDGE => {
                if let Ok(told) = serde_json::from_slice::<Acknowledged>(&frame.payload) {
                    let number = told.acknowledged_message_sequence_number;
                    self.sent.retain(|sent| sent.sequence != number);
                }
                return Ok((Heard::Nothing, Vec::new()));
            }
            // Whatever else there is, is not for the far side.
            _ => return Ok((Heard::Nothing, Vec::new())),
        }
        if frame.sequence < self.expected {
            // Our acknowledgement came too late.
            return Ok((Heard::Nothing, vec![self.acknowledgement(&frame, now)]));
        }
        if frame.sequence > self.expected || !room {
            return Ok((Heard::Nothing, Vec::new()));
        }
        self.expected += 1;
        let mut answers = vec![self.acknowledgement(&frame, now)];
        let heard = match frame.payload_type {
            payload::RESPONSE if !self.is_open => {
                accepted(&frame.payload)?;
                self.is_open = true;
                let took = now.instant.duration_since(self.greeted).as_nanos();
                let took = u64::try_from(took).unwrap_or(u64::MAX);
                let done = json!({ "HandshakeTimeToComplete": took, "CustomerMessage": "" });
                answers.push(self.stream(payload::COMPLETE, done.to_string().into(), now));
                Heard::Open
            }
            payload::FLAG if frame.payload[..] == TERMINATE => Heard::End,
            payload::BYTES if self.is_open => Heard::Input(Input::Bytes(frame.payload)),
            payload::SIZE if self.is_open => size(&frame.payload)
                .map_or(Heard::Nothing, |size| Heard::Input(Input::Resize(size))),
            _ => Heard::Nothing,
        };
        Ok((heard, answers))
    }

    /// The last message of a session; `why` it ended before its command did, or nothing.
    pub(super) fn closed(&mut self, session: &str, why: &str, now: Now) -> Bytes {
        let id = self.id();
        let content = json!({
            "MessageType": CLOSED,
            "MessageId": super::uuid(id),
            "DestinationId": session,
            "SessionId": session,
            "SchemaVersion": 1,
            "CreatedDate": now.wall.millis().to_string(),
            "Output": why,
        });
        frame(CLOSED, ALONE, (0, content.to_string().into()), (id, 0), now).write()
    }

    /// A numbered message, kept until it is acknowledged.
    fn stream(&mut self, payload_type: u32, bytes: Bytes, now: Now) -> Bytes {
        let (id, sequence) = (self.id(), self.next);
        self.next += 1;
        let wire = frame(OUTPUT, 0, (payload_type, bytes), (id, sequence), now).write();
        let instant = now.instant;
        let sent =
            Sent { sequence, wire: wire.clone(), first: instant, last: instant, wait: FIRST };
        self.sent.push_back(sent);
        wire
    }

    fn acknowledgement(&mut self, of: &Frame, now: Now) -> Bytes {
        let content = json!({
            "AcknowledgedMessageType": of.kind,
            "AcknowledgedMessageId": super::uuid(of.id),
            "AcknowledgedMessageSequenceNumber": of.sequence,
            "IsSequentialMessage": true,
        });
        let id = self.id();
        frame(ACKNOWLEDGE, ALONE, (0, content.to_string().into()), (id, 0), now).write()
    }

    fn id(&mut self) -> [u8; 16] {
        self.rng.u128(1..).to_be_bytes()
    }
}

fn frame(
    kind: &str,
    flags: u64,
    (payload_type, payload): (u32, Bytes),
    (id, sequence): ([u8; 16], i64),
    now: Now,
) -> Frame {
    let (kind, created) = (kind.to_owned(), now.wall.millis());
    Frame { kind, created, sequence, flags, id, payload_type, payload }
}

/// Whether the client does what it was asked for.
fn accepted(response: &[u8]) -> Result<(), Failure> {
    let response: Response = serde_json::from_slice(response).map_err(|_| Failure::Handshake)?;
    let mut actions = response.processed_client_actions.iter();
    match actions.any(|done| done.action_type == "SessionType" && done.action_status == 1) {
        true => Ok(()),
        false => Err(Failure::Handshake),
    }
}

/// None: no size that a terminal may have.
fn size(payload: &[u8]) -> Option<Size> {
    let Sized { cols, rows } = serde_json::from_slice(payload).ok()?;
    let number = |number: u32| u16::try_from(number).ok().filter(|number| *number > 0);
    Some(Size { rows: number(rows)?, columns: number(cols)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Now {
        // Any instant will do: only distances count.
        static ORIGIN: std::sync::LazyLock<Instant> =
            std::sync::LazyLock::new(crate::clock::instant);
        let instant = *ORIGIN + Duration::from_millis(millis);
        Now { wall: Timestamp::from_millis(1_000_000 + millis), instant }
    }

    fn read(wire: &Bytes) -> Frame {
        Frame::read(wire).unwrap()
    }

    /// Kind, number and payload of messages, in a line.
    fn shown(wires: &[Bytes]) -> String {
        let one = |wire: &Bytes| {
            let frame = read(wire);
            let text = String::from_utf8_lossy(&frame.payload).into_owned();
            match frame.kind.as_str() {
                ACKNOWLEDGE => {
                    let told: Acknowledged = serde_json::from_str(&text).unwrap();
                    format!("ack {}", told.acknowledged_message_sequence_number)
                }
                OUTPUT if frame.payload_type == payload::BYTES => {
                    format!("{} {text}", frame.sequence)
                }
                OUTPUT => format!("{} type {}", frame.sequence, frame.payload_type),
                kind => kind.to_owned(),
            }
        };
        wires.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    fn client(kind: &str, sequence: i64, payload_type: u32, text: &str) -> Bytes {
        let payload = Bytes::copy_from_slice(text.as_bytes());
        frame(kind, 0, (payload_type, payload), ([1; 16], sequence), at(0)).write()
    }

    fn acknowledged(sequence: i64) -> Bytes {
        let text = format!(r#"{{"AcknowledgedMessageSequenceNumber": {sequence}}}"#);
        client(ACKNOWLEDGE, 0, 0, &text)
    }

    const DONE: &str = r#"{"ClientVersion": "1.2.0", "Errors": null, "ProcessedClientActions": [
        {"ActionType": "SessionType", "ActionStatus": 1, "ActionResult": null, "Error": ""}]}"#;

    fn open() -> Channel {
        let (mut channel, request) = Channel::new(fastrand::Rng::with_seed(1), at(0));
        assert_eq!(shown(&[request]), "0 type 5");
        let response = client(INPUT, 0, payload::RESPONSE, DONE);
        let (heard, answers) = channel.hear(&response, true, at(5)).unwrap();
        assert_eq!((heard, shown(&answers).as_str()), (Heard::Open, "ack 0, 1 type 7"));
        for sequence in [0, 1] {
            channel.hear(&acknowledged(sequence), true, at(6)).unwrap();
        }
        assert!(channel.is_quiet());
        channel
    }

    #[test]
    fn input_is_taken_in_order_and_acknowledged_once_taken() {
        let mut channel = open();
        let mut check = |wire: Bytes, room: bool, expected: Heard, answers: &str| {
            let (heard, found) = channel.hear(&wire, room, at(10)).unwrap();
            assert_eq!((heard, shown(&found).as_str()), (expected, answers));
        };
        let typed =
            |text: &'static str| Heard::Input(Input::Bytes(Bytes::from_static(text.as_bytes())));
        let input = |number: i64, text: &str| client(INPUT, number, payload::BYTES, text);
        check(input(1, "a"), false, Heard::Nothing, "");
        check(input(2, "b"), true, Heard::Nothing, "");
        check(input(1, "a"), true, typed("a"), "ack 1");
        check(input(1, "a"), true, Heard::Nothing, "ack 1");
        check(input(2, "b"), true, typed("b"), "ack 2");
        let size = |number: i64, text: &str| client(INPUT, number, payload::SIZE, text);
        let resized = Heard::Input(Input::Resize(Size { rows: 24, columns: 80 }));
        check(size(3, r#"{"cols": 80, "rows": 24}"#), true, resized, "ack 3");
        check(size(4, r#"{"cols": 80000, "rows": 24}"#), true, Heard::Nothing, "ack 4");
        check(size(5, "wide"), true, Heard::Nothing, "ack 5");
        check(client(INPUT, 6, 99, "?"), true, Heard::Nothing, "ack 6");
        check(client("start_publication", 0, 0, ""), true, Heard::Nothing, "");
        check(client(INPUT, 7, payload::FLAG, "\0\0\0\u{1}"), true, Heard::Nothing, "ack 7");
        check(client(INPUT, 8, payload::FLAG, "\0\0\0\u{2}"), true, Heard::End, "ack 8");
        assert!(channel.hear(&Bytes::from_static(b"?"), true, at(10)).is_err());
    }

    #[test]
    fn output_is_sent_again_until_it_is_acknowledged() {
        let mut channel = open();
        for text in ["one", "two"] {
            channel.say(Bytes::from_static(text.as_bytes()), at(100));
        }
        let mut now = 100;
        for wait in [200, 400, 800, 1000, 1000] {
            assert_eq!(channel.due(), Some(at(now + wait).instant));
            now += wait;
            assert_eq!(shown(&[channel.again(at(now)).unwrap()]), "2 one");
        }
        // In any order.
        channel.hear(&acknowledged(3), true, at(now)).unwrap();
        assert!(!channel.is_quiet());
        channel.hear(&acknowledged(2), true, at(now)).unwrap();
        assert_eq!((channel.is_quiet(), channel.due()), (true, None));

        for _ in 0..WINDOW {
            assert!(channel.has_room());
            channel.say(Bytes::from_static(b"more"), at(now));
        }
        assert!(!channel.has_room());
        let end = now + u64::try_from(SILENCE.as_millis()).unwrap();
        assert!(channel.again(at(end - 1)).is_some());
        assert!(channel.again(at(end)).is_none());
    }

    #[test]
    fn clients_that_do_not_shake_hands_are_refused() {
        let check = |response: &str| {
            let (mut channel, _) = Channel::new(fastrand::Rng::with_seed(1), at(0));
            // Nothing is typed before it.
            let early = client(INPUT, 0, payload::BYTES, "rm");
            assert_eq!(channel.hear(&early, true, at(1)).unwrap().0, Heard::Nothing);
            let response = client(INPUT, 1, payload::RESPONSE, response);
            let heard = channel.hear(&response, true, at(1));
            assert_eq!(heard.map(|(heard, _)| heard), Err(Failure::Handshake));
        };
        check("");
        check("{}");
        check(&DONE.replace(": 1", ": 2"));
        check(&DONE.replace("SessionType", "KMSEncryption"));
    }

    #[test]
    fn the_last_message_says_why() {
        let wire = open().closed("s-1", "gone", at(9));
        let frame = read(&wire);
        let told: serde_json::Value = serde_json::from_slice(&frame.payload).unwrap();
        assert_eq!((frame.kind.as_str(), &told["SessionId"]), (CLOSED, &json!("s-1")));
        assert_eq!((&told["Output"], &told["CreatedDate"]), (&json!("gone"), &json!("1000009")));
        assert_eq!(told["MessageId"], super::super::uuid(frame.id));
    }
}
