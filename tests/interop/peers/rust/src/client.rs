//! Commands on connections and streams.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::core::{PeerRecord, SignedEnvelope};
use libp2p::swarm::{DialError, Stream, StreamProtocol};
use libp2p::PeerId;
use rand::Rng;
use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::host::Host;
use crate::serve::{Counters, Payload, ECHO, IO_CHUNK, PERF, RESET, SINK, SOURCE};
use crate::{wire, Failure, Reply, Request};

const PING: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");
const PING_BYTES: usize = 32;
const IDENTIFY: StreamProtocol = StreamProtocol::new("/ipfs/id/1.0.0");
const IDENTIFY_MAX: usize = 8192; // bytes of one message

pub fn since(t: Instant) -> f64 {
    t.elapsed().as_secs_f64() * 1e3
}

pub async fn connect(h: &Host, q: &Request) -> Reply {
    let peer: PeerId = q.text("addr").rsplit('/').next().unwrap_or("").parse()?;
    if h.connected(peer).await? {
        return Ok(json!({ "peer": peer.to_string(), "ms": 0.0, "already": true }));
    }
    let start = Instant::now();
    h.dial(q.text("addr")).await??;
    Ok(json!({ "peer": peer.to_string(), "ms": since(start), "already": false }))
}

pub async fn disconnect(h: &Host, q: &Request) -> Reply {
    Ok(json!({ "closed": h.disconnect(q.text("peer").parse()?).await? }))
}

pub async fn peers(h: &Host) -> Reply {
    let list: Vec<Value> = h
        .with(|s| {
            let entry = |c: &crate::host::Connection| {
                let opened = c.opened.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3;
                json!({
                    "id": c.peer.to_string(), "addr": c.addr.to_string(), "dir": if c.outbound { "out" } else { "in" },
                    "relayed": c.relayed, "limited": null, "opened": opened,
                })
            };
            s.connections.values().map(entry).collect()
        })
        .await?;
    Ok(json!({ "peers": list }))
}

pub async fn identify(h: &Host, q: &Request) -> Reply {
    let peer = h.remote(q.text("peer")).await?;
    let info = loop {
        let (info, error) =
            h.with(move |s| (s.identified.get(&peer).cloned(), s.identify_errors.get(&peer).cloned())).await?;
        match (info, error) {
            (Some(info), _) => break info,
            (None, Some(error)) => return Err(Failure::new(format!("identify failed: {error}"))),
            (None, None) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let mut reply = json!({
        "agent": info.agent_version,
        "protocolVersion": info.protocol_version,
        "protocols": info.protocols.iter().map(|p| p.to_string()).collect::<Vec<_>>(),
        "listenAddrs": info.listen_addrs.iter().map(|a| a.to_string()).collect::<Vec<_>>(),
        "observedAddr": info.observed_addr.to_string(),
        "publicKey": hex::encode(info.public_key.encode_protobuf()),
        "signedRecord": "absent", "recordAddrs": null, "recordSeq": null,
    });
    let Some(raw) = raw_record(h, peer).await? else { return Ok(reply) };
    // The library's identify only takes records of rust's own form; the form that everybody else sends has calls too.
    let envelope = || SignedEnvelope::from_protobuf_encoding(&raw).map_err(|e| e.to_string());
    let record = envelope()
        .and_then(|e| PeerRecord::from_signed_envelope_interop(e).map_err(|e| e.to_string()))
        .map(|r| (r, "standard"))
        .or_else(|first| {
            let legacy = envelope().and_then(|e| PeerRecord::from_signed_envelope(e).map_err(|e| e.to_string()));
            legacy.map(|r| (r, "legacy")).map_err(|_| first)
        });
    reply["signedRecord"] = json!("rejected");
    match record {
        Ok((record, form)) if record.peer_id() == peer => {
            reply["signedRecord"] = json!("verified");
            reply["recordForm"] = json!(form);
            reply["recordAddrs"] = record.addresses().iter().map(|a| a.to_string()).collect();
            reply["recordSeq"] = json!(record.seq());
        }
        Ok((record, _)) => eprintln!("signed record of {peer} is about {}", record.peer_id()),
        Err(e) => eprintln!("signed record of {peer}: {e}"),
    }
    Ok(reply)
}

/// Asks for identify once more and returns the signedPeerRecord field as it was sent.
async fn raw_record(h: &Host, peer: PeerId) -> Result<Option<Vec<u8>>, Failure> {
    let mut s = h.open(peer, &IDENTIFY).await?;
    let mut record = None;
    while let Some(m) = wire::read_message(&mut s, IDENTIFY_MAX).await? {
        let fields = wire::fields(&m).ok_or_else(|| Failure::new("identify message does not parse"))?;
        record = fields.iter().find(|(number, _)| *number == 8).map(|(_, v)| v.to_vec()).or(record);
    }
    s.close().await.ok();
    Ok(record)
}

/// Pings one after the other on one stream. The library's own ping runs by its own clock only.
pub async fn pings_on(h: &Host, peer: PeerId, count: u64) -> Result<Vec<f64>, Failure> {
    let mut s = h.open(peer, &PING).await?;
    let mut rtts = vec![];
    for _ in 0..count {
        let (mut data, mut back) = ([0; PING_BYTES], [0; PING_BYTES]);
        rand::rng().fill_bytes(&mut data);
        let start = Instant::now();
        s.write_all(&data).await?;
        s.flush().await?;
        s.read_exact(&mut back).await?;
        rtts.push(since(start));
        if data != back {
            return Err(Failure::new("ping came back with other bytes"));
        }
    }
    s.close().await?;
    Ok(rtts)
}

pub async fn ping(h: &Host, q: &Request) -> Reply {
    let peer = h.remote(q.text("peer")).await?;
    // the library pings once at the start of a connection: that one has to have worked as well
    let own = loop {
        match h.with(move |s| s.pinged.get(&peer).cloned()).await? {
            Some(Ok(rtt)) => break rtt,
            Some(Err(e)) => return Err(Failure::new(format!("the library's ping failed: {e}"))),
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let rtts = pings_on(h, peer, q.number("count", 1)).await?;
    Ok(json!({ "rtts": rtts, "libraryRtt": own.as_secs_f64() * 1e3 }))
}

async fn expect(r: &mut (impl AsyncRead + Unpin), check: &mut Payload, mut n: u64) -> Result<(), Failure> {
    let mut buf = vec![0; n.min(IO_CHUNK as u64) as usize];
    while n > 0 {
        let want = n.min(IO_CHUNK as u64) as usize;
        let got = r.read(&mut buf[..want]).await?;
        if got == 0 {
            return Err(Failure::new(format!("EOF, {n} bytes missing")));
        }
        n -= got as u64;
        let mut b = &buf[..got];
        while !b.is_empty() {
            let want = check.next(b.len());
            if b[..want.len()] != *want {
                return Err(Failure::new("echoed bytes differ"));
            }
            b = &b[want.len()..];
        }
    }
    Ok(())
}

async fn send(w: &mut (impl AsyncWrite + Unpin), payload: &mut Payload, mut n: u64, chunk: usize) -> std::io::Result<()> {
    while n > 0 {
        let b = payload.next(n.min(chunk as u64) as usize);
        w.write_all(b).await?;
        n -= b.len() as u64;
    }
    Ok(())
}

/// Sends total bytes and checks that the same come back, then EOF.
/// With a ticket: after the first byte came back it waits at the gate for all the other streams.
async fn exchange(s: Stream, total: u64, from: usize, ticket: Option<Ticket>) -> Result<(), Failure> {
    let (mut sent, mut check) = (Payload::from(from), Payload::from(from));
    let (mut r, mut w) = s.split();
    let mut left = total;
    if let Some(ticket) = ticket {
        send(&mut w, &mut sent, 1, 1).await?;
        w.flush().await?;
        expect(&mut r, &mut check, 1).await?;
        left -= 1;
        ticket.pass().await;
    }
    let write = async {
        send(&mut w, &mut sent, left, IO_CHUNK).await?;
        w.close().await?;
        Ok::<(), Failure>(())
    };
    futures::try_join!(write, expect(&mut r, &mut check, left))?;
    match r.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(Failure::new("expected EOF, got more bytes")),
    }
}

/// Opens when every ticket has passed or was given up.
struct Gate {
    missing: AtomicUsize,
    door: Semaphore,
}

struct Ticket {
    gate: Arc<Gate>,
    used: bool,
}

impl Ticket {
    fn issue(count: usize) -> Vec<Ticket> {
        let gate = Arc::new(Gate { missing: AtomicUsize::new(count), door: Semaphore::new(0) });
        (0..count).map(|_| Ticket { gate: gate.clone(), used: false }).collect()
    }

    fn leave(&mut self) {
        if !std::mem::replace(&mut self.used, true) && self.gate.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.gate.door.close();
        }
    }

    async fn pass(mut self) {
        self.leave();
        self.gate.door.acquire().await.ok(); // an error says that the door was closed for good: all are through
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave();
    }
}

pub async fn echo(h: &Arc<Host>, q: &Request) -> Reply {
    let peer = h.remote(q.text("peer")).await?;
    let (streams, total) = (q.number("streams", 1) as usize, q.number("bytes", 1024));
    let mut tickets = if q.flag("hold") && total > 0 { Ticket::issue(streams) } else { vec![] };
    let start = Instant::now();
    let tasks: Vec<_> = (0..streams)
        .map(|i| {
            let (h, ticket) = (h.clone(), tickets.pop());
            tokio::spawn(async move {
                let s = h.open(peer, &ECHO).await?;
                exchange(s, total, i * 8191, ticket).await
            })
        })
        .collect();
    let mut errors = vec![];
    for task in tasks {
        if let Err(f) = task.await? {
            errors.push(f.text);
        }
    }
    let good = streams - errors.len();
    Counters::add(&h.counters.bytes_out, good as u64 * total);
    Counters::add(&h.counters.bytes_in, good as u64 * total);
    let reply = json!({
        "good": good, "failed": errors.len(), "errors": errors.iter().take(5).collect::<Vec<_>>(), "ms": since(start),
    });
    match errors.first() {
        None => Ok(reply),
        Some(e) => Err(Failure::with(format!("{} of {streams} streams failed: {e}", errors.len()), reply)),
    }
}

pub async fn sink(h: &Host, q: &Request) -> Reply {
    let peer = h.remote(q.text("peer")).await?;
    let (total, chunk) = (q.number("bytes", 1 << 20), q.number("chunk", IO_CHUNK as u64) as usize);
    let start = Instant::now();
    let mut s = h.open(peer, &SINK).await?;
    let mut sum = Sha256::new();
    let mut payload = Payload::from(0);
    let mut left = total;
    while left > 0 {
        let b = payload.next(left.min(chunk as u64) as usize);
        sum.update(b);
        s.write_all(b).await?;
        left -= b.len() as u64;
    }
    s.close().await?;
    let want = [&sum.finalize()[..], &total.to_be_bytes()].concat();
    let mut got = vec![];
    s.read_to_end(&mut got).await?;
    if got != want {
        return Err(Failure::new(format!("the sink answered {}, not {}", hex::encode(got), hex::encode(want))));
    }
    Counters::add(&h.counters.bytes_out, total);
    Ok(json!({ "sha256": hex::encode(&want[..32]), "ms": since(start) }))
}

/// Asks the source for total bytes and checks the hash; waits `pause` after each chunk.
async fn download(h: &Host, peer: PeerId, total: u64, chunk: usize, pause: Duration) -> Result<String, Failure> {
    let mut s = h.open(peer, &SOURCE).await?;
    s.write_all(&total.to_be_bytes()).await?;
    s.close().await?;
    let mut sum = Sha256::new();
    let mut buf = vec![0; chunk];
    let mut left = total;
    while left > 0 {
        let b = &mut buf[..left.min(chunk as u64) as usize];
        s.read_exact(b).await.map_err(|e| format!("{left} bytes missing: {e}"))?;
        sum.update(&b);
        left -= b.len() as u64;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    let want = sum.finalize();
    let mut tail = vec![];
    s.read_to_end(&mut tail).await?;
    if tail != want[..] {
        let text = format!("the source's hash is {}, of what came it is {}", hex::encode(tail), hex::encode(want));
        return Err(Failure::new(text));
    }
    Counters::add(&h.counters.bytes_in, total);
    Ok(hex::encode(want))
}

pub async fn source(h: &Host, q: &Request) -> Reply {
    let peer = h.remote(q.text("peer")).await?;
    let start = Instant::now();
    let sum = download(h, peer, q.number("bytes", 1 << 20), IO_CHUNK, Duration::ZERO).await?;
    Ok(json!({ "sha256": sum, "ms": since(start) }))
}

pub async fn slow(h: &Host, q: &Request) -> Reply {
    let peer = h.remote(q.text("peer")).await?;
    let (total, chunk) = (q.number("bytes", 4 << 20), q.number("chunk", IO_CHUNK as u64));
    let (pause, count) = (Duration::from_millis(q.number("pause", 20)), q.number("pings", 5));
    let gap = pause * (total / chunk) as u32 / (count as u32 + 1);
    let start = Instant::now();
    let pinging = async {
        let mut rtts = vec![];
        for _ in 0..count {
            tokio::time::sleep(gap).await;
            let rtt = pings_on(h, peer, 1).await;
            rtts.extend(rtt.map_err(|f| Failure::new(format!("ping while reading slowly: {}", f.text)))?);
        }
        Ok(rtts)
    };
    let (sum, rtts) = futures::try_join!(download(h, peer, total, chunk as usize, pause), pinging)?;
    Ok(json!({ "sha256": sum, "ms": since(start), "rtts": rtts }))
}

async fn alive(h: &Host, peer: PeerId) -> bool {
    pings_on(h, peer, 1).await.is_ok()
}

pub async fn reset(h: &Host, q: &Request) -> Reply {
    let peer = h.remote(q.text("peer")).await?;
    let mut s = h.open(peer, &RESET).await?;
    s.write_all(&[1]).await?;
    s.flush().await?;
    let outcome = match s.read(&mut [0]).await {
        Ok(0) => "eof",
        Ok(_) => return Err(Failure::new("bytes came instead of a reset")),
        Err(_) => "reset",
    };
    drop(s);
    let alive = alive(h, peer).await;
    let reply = json!({ "outcome": outcome, "code": null, "alive": alive });
    match alive {
        true => Ok(reply),
        false => Err(Failure::with("the connection did not survive the reset", reply)),
    }
}

pub async fn reset_out(h: &Host, q: &Request) -> Reply {
    let peer = h.remote(q.text("peer")).await?;
    let mut s = h.open(peer, &RESET).await?;
    s.write_all(&[2]).await?;
    s.flush().await?;
    s.read_exact(&mut [0]).await?;
    drop(s); // resets it
    match alive(h, peer).await {
        true => Ok(json!({ "alive": true })),
        false => Err(Failure::with("the connection did not survive the reset", json!({ "alive": false }))),
    }
}

pub async fn wrongid(h: &Host, q: &Request) -> Reply {
    match h.dial(q.text("addr")).await? {
        Ok(_) => Err(Failure::with("the dial succeeded", json!({ "refused": false }))),
        Err(e) => Ok(json!({
            "refused": true, "mismatch": matches!(e, DialError::WrongPeerId { .. }), "error": e.to_string(),
        })),
    }
}

pub async fn perf(h: &Host, q: &Request) -> Reply {
    let peer = h.remote(q.text("peer")).await?;
    let (up, down) = (q.number("up", 0), q.number("down", 0));
    let start = Instant::now();
    let mut s = h.open(peer, &PERF).await?;
    s.write_all(&down.to_be_bytes()).await?;
    send(&mut s, &mut Payload::from(0), up, IO_CHUNK).await?;
    s.close().await?;
    let turn = Instant::now();
    let mut buf = vec![0; IO_CHUNK];
    let mut got = 0;
    loop {
        match s.read(&mut buf).await? {
            0 => break,
            n => got += n as u64,
        }
    }
    if got != down {
        return Err(Failure::new(format!("asked for {down} bytes, got {got}")));
    }
    Counters::add(&h.counters.bytes_out, up);
    Counters::add(&h.counters.bytes_in, down);
    Ok(json!({ "ms": since(start), "upMs": (turn - start).as_secs_f64() * 1e3, "downMs": since(turn) }))
}

pub fn key(h: &Host) -> Reply {
    let key = h.key.public();
    let kind = h.key.key_type().to_string().to_lowercase();
    Ok(json!({ "id": h.id.to_string(), "publicKey": hex::encode(key.encode_protobuf()), "type": kind }))
}

pub fn gc() -> Reply {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let read = |name: &str| -> u64 {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap_or("");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    Ok(json!({ "rssKiB": read("VmRSS:"), "anonKiB": read("RssAnon:") }))
}
