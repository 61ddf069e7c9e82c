//! The WebSocket of a session: its data channel on one side, the command's bytes on the other.
//!
//! **Invariant:** every wait is bounded: for the token, for a client that reads nothing, for one
//! that acknowledges nothing, for a session in which nothing is said. A client that goes away ends
//! its command.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use super::channel::{Channel, Heard, Now};
use super::{Sessions, Wanted};
use crate::api::exec::{Desk, ENDS};
use crate::clock;
use crate::runtime::{Exec, Input, Output, Session, Size};

/// As in Systems Manager: the session's id follows.
const PATH: &str = "/v1/data-channel/";
/// For a client to show its token (ours).
const TOKEN: Duration = Duration::from_secs(10);
/// For a client to take a message (ours).
const WRITE: Duration = Duration::from_secs(60);
/// "Sessions have an idle timeout value of 20 minutes" (ECS developer guide, ECS Exec).
const IDLE: Duration = Duration::from_secs(20 * 60);
/// For a client to acknowledge what its command said last, and to take the last word (ours).
const LAST: Duration = Duration::from_secs(5);
/// The longest message of a client, in bytes (ours; the plugin reads 1 KiB at a time).
const MESSAGE: usize = 64 * 1024;
/// Pieces of input that wait for the command to read (ours).
const INPUTS: usize = 16;
/// Of a terminal, until the client says its size (Docker's default).
const SIZE: Size = Size { rows: 24, columns: 80 };

/// Where a session is opened.
pub(in crate::api) fn url(host: &str, is_secure: bool, id: &str) -> String {
    let scheme = if is_secure { "wss" } else { "ws" };
    format!("{scheme}://{host}{PATH}{id}?role=publish_subscribe")
}

/// Whether a request is for the data channel of a session.
pub(in crate::api) fn wants(method: &Method, uri: &Uri) -> bool {
    method == Method::GET && uri.path().starts_with(PATH)
}

/// Becomes a WebSocket (RFC 6455, section 4.2.2) that carries the session until it ends.
pub(in crate::api) fn answer(
    sessions: &Sessions,
    request: Request<Incoming>,
    stop: CancellationToken,
) -> Response<Full<Bytes>> {
    let text = |status: StatusCode, text: &'static str| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response
    };
    let id = request.uri().path().trim_start_matches(PATH).to_owned();
    let headers = request.headers();
    let is_13 = headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_13);
    let Some(accept) = key.map(|key| derive_accept_key(key.as_bytes())) else {
        return text(StatusCode::BAD_REQUEST, "this is a WebSocket of version 13\n");
    };
    if !sessions.waiting().has(&id, clock::instant()) {
        return text(StatusCode::NOT_FOUND, "no such session waits to be opened\n");
    }
    let Ok(place) = sessions.0.places.clone().try_acquire_owned() else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "too many sessions\n");
    };
    let own = sessions.clone();
    sessions.0.running.spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            let config = WebSocketConfig::default();
            let config = config.max_message_size(Some(MESSAGE)).max_frame_size(Some(MESSAGE));
            let stream = TokioIo::new(upgraded);
            let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config));
            carry(&own, socket.await, id, stop).await;
        }
        drop(place);
    });
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = accept.parse() {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A client that is gone, or does not speak as it should.
#[derive(Debug)]
struct Gone;

/// What a client says first.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OpenDataChannel {
    token_value: String,
}

async fn carry(sessions: &Sessions, mut socket: Socket, id: String, stop: CancellationToken) {
    let told = tokio::select! {
        told = tokio::time::timeout(TOKEN, socket.next()) => told,
        () = stop.cancelled() => return,
    };
    let Ok(Some(Ok(Message::Text(told)))) = told else { return };
    let opened = serde_json::from_str::<OpenDataChannel>(&told)
        .ok()
        .and_then(|told| sessions.waiting().open(&id, &told.token_value, clock::instant()));
    let Some(wanted) = opened else {
        tracing::warn!(session = id, "a client without the token of a session is refused");
        let _ = tokio::time::timeout(LAST, socket.close(None)).await;
        return;
    };
    let (channel, request) = Channel::new(fastrand::Rng::new(), now());
    let mut line = Line { socket, channel };
    let ended = tokio::select! {
        ended = line.converse(&sessions.0.desk, &wanted, request) => ended,
        () = stop.cancelled() => Ok(ENDS.to_owned()),
    };
    if let Ok(why) = ended {
        let last = line.channel.closed(&id, &why, now());
        let ending = async {
            if line.send(last).await.is_ok() {
                let _ = line.socket.close(None).await;
            }
        };
        // A client that reads nothing does not keep the process.
        let _ = tokio::time::timeout(LAST, ending).await;
    }
    tracing::info!(session = id, task = wanted.task, "a session has ended");
}

fn now() -> Now {
    Now { wall: clock::now(), instant: clock::instant() }
}

struct Line {
    socket: Socket,
    channel: Channel,
}

/// What the command says next. None: not started yet, or it has said everything.
async fn said(output: &mut Option<mpsc::Receiver<Output>>) -> Option<Output> {
    match output {
        Some(output) => output.recv().await,
        None => std::future::pending().await,
    }
}

/// Gives a piece of input to the command, when it has room.
async fn give(input: Option<&mpsc::Sender<Input>>, inputs: &mut VecDeque<Input>) {
    match input {
        Some(sender) => match sender.reserve().await {
            Ok(place) => {
                if let Some(told) = inputs.pop_front() {
                    place.send(told);
                }
            }
            // It reads no more, and may still say something.
            Err(_) => inputs.clear(),
        },
        None => std::future::pending().await,
    }
}

impl Line {
    /// Until the session ends; why it does before its command.
    async fn converse(
        &mut self,
        desk: &Desk,
        wanted: &Wanted,
        request: Bytes,
    ) -> Result<String, Gone> {
        self.send(request).await?;
        let (mut input, mut output) = (None, None);
        let mut inputs = VecDeque::new();
        let (mut active, mut last) = (clock::instant(), None::<Instant>);
        loop {
            if last.is_some() && self.channel.is_quiet() {
                return Ok(String::new());
            }
            let due = self.channel.due();
            let (may_give, may_say) = (!inputs.is_empty(), self.channel.has_room());
            let room = inputs.len() < INPUTS;
            tokio::select! {
                message = self.socket.next() => {
                    match self.hear(message, room).await? {
                        Heard::Nothing => {}
                        Heard::Open => match start(desk, wanted).await {
                            Ok(session) => {
                                (input, output) = (Some(session.input), Some(session.output));
                            }
                            Err(why) => return Ok(why),
                        },
                        Heard::Input(told) => {
                            if matches!(told, Input::Bytes(_)) {
                                active = clock::instant();
                            }
                            inputs.push_back(told);
                        }
                        Heard::End => return Ok(String::new()),
                    }
                }
                () = give(input.as_ref(), &mut inputs), if may_give => {}
                said = said(&mut output), if may_say => match said {
                    Some(Output::Out(bytes) | Output::Err(bytes)) => {
                        active = clock::instant();
                        let wire = self.channel.say(bytes, now());
                        self.send(wire).await?;
                    }
                    Some(Output::Ended(_)) | None => {
                        output = None;
                        last = Some(clock::instant() + LAST);
                    }
                },
                () = until(due) => {
                    let wire = self.channel.again(now()).ok_or(Gone)?;
                    self.send(wire).await?;
                }
                () = until(last) => return Ok(String::new()),
                () = until(Some(active + IDLE)) => {
                    return Ok("the session timed out: nothing was said for 20 minutes".to_owned());
                }
            }
        }
    }

    /// Takes a message and answers it.
    async fn hear(
        &mut self,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
        room: bool,
    ) -> Result<Heard, Gone> {
        let wire = match message {
            Some(Ok(Message::Binary(wire))) => wire,
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Gone),
            // Pings answer themselves.
            Some(Ok(_)) => return Ok(Heard::Nothing),
        };
        let heard = self.channel.hear(&wire, room, now());
        let (heard, answers) = heard.map_err(|failure| {
            tracing::debug!(%failure, "a client of a session");
            Gone
        })?;
        for answer in answers {
            self.send(answer).await?;
        }
        Ok(heard)
    }

    async fn send(&mut self, wire: Bytes) -> Result<(), Gone> {
        match tokio::time::timeout(WRITE, self.socket.send(Message::Binary(wire))).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Gone),
        }
    }
}

/// Never, where there is no such time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn start(desk: &Desk, wanted: &Wanted) -> Result<Session, String> {
    let exec = Exec { command: wanted.command.clone(), terminal: Some(SIZE) };
    desk.open(&wanted.task, Some(&wanted.container), &exec).await
}
