//! Floods of HTTP/2 frames: each ends with a GOAWAY, costs little memory, and keeps nobody else
//! from being served.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::head::PREFACE;
use super::h2::Peer;
use super::world::*;
use crate::clock;
use crate::model::Carrier;

/// Memory that one kind of flood may cost beside what honest use does.
const MOST: usize = 64 << 20;

/// How long each flood goes on.
fn duration() -> Duration {
    match super::is_full() {
        true => Duration::from_secs(30),
        false => Duration::from_millis(160),
    }
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![a, b, c, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// GET, http, /, authority "t".
const GET: [u8; 6] = [0x82, 0x86, 0x84, 0x41, 1, b't'];
/// POST, http, /, authority "t".
pub(super) const POST: [u8; 6] = [0x83, 0x86, 0x84, 0x41, 1, b't'];

/// The `number`th piece of a flood; `stream` is a number that was not used before.
type Flood = fn(number: u32, stream: u32) -> Vec<u8>;

const FLOODS: [(&str, Flood); 9] = [
    ("rapid reset", |_, stream| {
        [frame(1, 5, stream, &GET), frame(3, 0, stream, &8u32.to_be_bytes())].concat()
    }),
    ("resets that we are made to send", |_, stream| {
        // A window that grows too large is a stream error: RFC 9113, section 6.9.1.
        let grows = 0x7fff_ffff_u32.to_be_bytes();
        [frame(1, 4, stream, &POST), frame(8, 0, stream, &grows)].concat()
    }),
    ("CONTINUATION", |number, _| match number {
        0 => frame(1, 1, 1, &GET),
        _ => frame(9, 0, 1, &[0x40, 1, b'a', 1, b'b']),
    }),
    ("CONTINUATION of nothing", |number, _| match number {
        0 => frame(1, 1, 1, &GET),
        _ => frame(9, 0, 1, &[]),
    }),
    ("SETTINGS", |_, _| frame(4, 0, 0, &[0, 3, 0, 0, 0, 100])),
    ("PING", |_, _| frame(6, 0, 0, &[7; 8])),
    ("DATA of nothing", |number, _| match number {
        0 => frame(1, 4, 1, &POST),
        _ => frame(0, 0, 1, &[]),
    }),
    ("WINDOW_UPDATE", |_, _| frame(8, 0, 0, &1u32.to_be_bytes())),
    ("PRIORITY", |_, stream| frame(2, 0, stream, &[0, 0, 0, 0, 9])),
];

/// What a connection's last GOAWAY said; none where it ended without one.
async fn goaway(mut read: impl AsyncReadExt + Unpin) -> Option<u32> {
    let mut bytes = BytesMut::new();
    let mut said = None;
    loop {
        while bytes.len() >= 9 {
            let length = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8;
            let length = length | usize::from(bytes[2]);
            if bytes.len() < 9 + length {
                break;
            }
            let frame = bytes.split_to(9 + length);
            if frame[3] == 7 {
                said = Some(u32::from_be_bytes(frame[13..17].try_into().unwrap()));
            }
        }
        match read.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return said,
            Ok(_) => {}
        }
    }
}

/// One flood over one connection; what its GOAWAY said.
async fn flood(world: &World, piece: Flood) -> Option<u32> {
    let stream = TcpStream::connect(world.key.address).await.unwrap();
    let (read, mut write) = stream.into_split();
    let reading = tokio::spawn(goaway(read));
    let _ = write.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await;
    let mut number = 0;
    while !reading.is_finished() {
        let pieces = (number..number + 64).flat_map(|number| piece(number, 2 * number + 1));
        number += 64;
        if write.write_all(&pieces.collect::<Vec<_>>()).await.is_err() {
            break;
        }
    }
    tokio::time::timeout(PATIENCE, reading).await.expect("it goes on for ever").unwrap()
}

/// Resident memory, in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn floods_end_with_goaway_while_others_are_served() {
    let target = Target::new(|_| ok("well")).await;
    let world = World::new(Plan::of(Carrier::Native), &[("a", &target)]).await;
    let mut honest = Peer::new(&world).await;
    for (name, piece) in FLOODS {
        let before = resident();
        let end = clock::instant() + duration();
        let (mut said, mut rounds, mut served) = (Vec::new(), 0, 0);
        while rounds == 0 || clock::instant() < end {
            let flooding = async { said.push(flood(&world, piece).await) };
            let asking = async {
                for _ in 0..5 {
                    assert_eq!(honest.get("/").await.body, "well", "{name}");
                    served += 1;
                }
            };
            tokio::join!(flooding, asking);
            rounds += 1;
            if served % 1000 > 990 {
                honest = Peer::new(&world).await;
            }
        }
        // What the kernel resets because of unread frames may take the GOAWAY with it.
        assert!(said.iter().all(|code| matches!(code, None | Some(11))), "{name}: {said:?}");
        assert!(said.contains(&Some(11)), "{name}: ENHANCE_YOUR_CALM in {said:?}");
        let grown = || resident().saturating_sub(before);
        super::note(&format!(
            "{name}: {rounds} rounds, {served} served, {} KiB more",
            grown() / 1024
        ));
        // Other tests of this process may have something for a while.
        until(&format!("{name} costs no more than it may"), || grown() < MOST).await;
    }
    until("nothing is under way", || world.in_flight() == 0).await;
    drop(honest);
    world.at_rest().await;
}
