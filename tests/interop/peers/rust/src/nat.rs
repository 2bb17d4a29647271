//! Reachability, relays and hole punching.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::io::AsyncWriteExt;
use libp2p::core::transport::ListenerId;
use libp2p::core::SignedEnvelope;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::StreamProtocol;
use libp2p::{autonat, dcutr, relay, Multiaddr, PeerId};
use serde_json::{json, Value};
use tokio::sync::oneshot;

use crate::client::since;
use crate::host::{Host, State};
use crate::{wire, Failure, Options, Reply, Request};

const HOP: StreamProtocol = relay::HOP_PROTOCOL_NAME;
const HOP_MAX: usize = 4096; // bytes of one message
const STATUS_OK: u64 = 100;
const VOUCHER_DOMAIN: &str = "libp2p-relay-rsvp";
const VOUCHER_TYPE: [u8; 2] = [0x03, 0x02];

/// What the behaviours of this file have reported so far.
#[derive(Default)]
pub struct Seen {
    pub reservations: Vec<(ListenerId, PeerId, oneshot::Sender<Result<(), String>>)>, // that somebody waits for
    pub punches: Vec<Value>,
    pub verdicts: HashMap<Multiaddr, Value>, // by AutoNAT v2
}

/// What --relay-limits names, the library's own otherwise; with --limits lifted nobody asks too often.
pub fn relay_config(text: &str, lifted: bool) -> Result<relay::Config, Failure> {
    let mut config = relay::Config::default();
    if lifted {
        config.reservation_rate_limiters.clear();
        config.circuit_src_rate_limiters.clear();
    }
    for pair in text.split(',').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let n: u64 = value.parse().map_err(|e| format!("--relay-limits {pair}: {e}"))?;
        match name {
            "duration" => config.max_circuit_duration = Duration::from_secs(if n == 0 { u64::from(u32::MAX) } else { n }),
            "data" => config.max_circuit_bytes = n,
            "reservations" => config.max_reservations = n as usize,
            "circuits" => {
                config.max_circuits_per_peer = n as usize;
                config.max_circuits = config.max_circuits.max(n as usize);
            }
            "ttl" => config.reservation_duration = Duration::from_secs(n),
            _ => return Err(Failure::new(format!("--relay-limits has no {name}"))),
        }
    }
    Ok(config)
}

/// AutoNAT v1 asks again within seconds with --limits lifted, not after one and a half minutes.
pub fn v1_config(o: &Options) -> autonat::Config {
    let config = autonat::Config::default();
    match o.lifted {
        false => config,
        true => autonat::Config {
            boot_delay: Duration::from_secs(1),
            retry_interval: Duration::from_secs(2),
            throttle_server_period: Duration::from_secs(1),
            throttle_clients_peer_max: usize::MAX,
            throttle_clients_global_max: usize::MAX,
            ..config
        },
    }
}

impl State {
    pub fn on_circuit(&mut self, event: relay::client::Event) {
        eprintln!("relay client: {event:?}");
        if let relay::client::Event::ReservationReqAccepted { relay_peer_id, .. } = event {
            self.reservation_done(|(_, relay, _)| *relay == relay_peer_id, Ok(()));
        }
    }

    pub fn on_listener_closed(&mut self, id: ListenerId, reason: Result<(), String>) {
        self.reservation_done(|(listener, _, _)| *listener == id, Err(format!("{reason:?}")));
    }

    fn reservation_done(
        &mut self,
        which: impl Fn(&(ListenerId, PeerId, oneshot::Sender<Result<(), String>>)) -> bool,
        result: Result<(), String>,
    ) {
        let (done, left) = std::mem::take(&mut self.nat.reservations).into_iter().partition(|r| which(r));
        self.nat.reservations = left;
        let done: Vec<_> = done;
        for (_, _, answer) in done {
            answer.send(result.clone()).ok();
        }
    }

    pub fn on_punch(&mut self, event: dcutr::Event) {
        let error = event.result.as_ref().err().map(|e| e.to_string());
        self.nat.punches.push(json!({
            "peer": event.remote_peer_id.to_string(), "what": "punch", "ok": error.is_none(), "error": error,
        }));
    }

    pub fn on_verdict(&mut self, event: autonat::v2::client::Event) {
        let error = event.result.as_ref().err().map(|e| e.to_string());
        let verdict = if error.is_none() { "reachable" } else { "unreachable" };
        self.nat.verdicts.insert(
            event.tested_addr.clone(),
            json!({
                "addr": event.tested_addr.to_string(), "verdict": verdict, "server": event.server.to_string(),
                "dialData": event.bytes_sent, "error": error,
            }),
        );
    }
}

/// Listens through the relay, then asks once more by hand: the library keeps expiry, voucher and addresses to itself.
pub async fn reserve(h: &Host, q: &Request) -> Reply {
    let addr: Multiaddr = q.text("addr").parse()?;
    let Some(Protocol::P2p(relay)) = addr.iter().last() else {
        return Err(Failure::new("the address has no /p2p/ID at its end"));
    };
    let start = Instant::now();
    let (answer, accepted) = oneshot::channel();
    h.with(move |s| {
        if s.swarm.behaviour().circuit.as_ref().is_none() {
            return Err("without --circuit there are no reservations".to_string());
        }
        let id = s.swarm.listen_on(addr.with(Protocol::P2pCircuit)).map_err(|e| e.to_string())?;
        s.nat.reservations.push((id, relay, answer));
        Ok(())
    })
    .await??;
    let accepted = accepted.await?;
    let ms = since(start);
    if accepted.is_ok() && !q.flag_or("look", true) {
        return Ok(json!({ "relay": relay.to_string(), "ms": ms }));
    }
    let mut reply = match ask(h, relay).await {
        Ok(reply) => reply,
        Err(f) if accepted.is_ok() => return Err(f),
        Err(f) => Failure::with("", f.reply).reply,
    };
    if let Err(text) = accepted {
        return Err(Failure::with(text, json!({ "status": reply["status"] })));
    }
    reply["ms"] = json!(ms);
    reply["relay"] = json!(relay.to_string());
    Ok(reply)
}

async fn ask(h: &Host, relay: PeerId) -> Reply {
    let mut s = h.open(relay, &HOP).await?;
    s.write_all(&[2, 0x08, 0]).await?; // HopMessage { type: RESERVE }
    s.flush().await?;
    let answer = wire::read_message(&mut s, HOP_MAX).await?.ok_or_else(|| Failure::new("no answer to RESERVE"))?;
    s.close().await.ok();
    let bad = || Failure::new("the answer to RESERVE does not parse");
    let status = wire::number(&answer, 5).ok_or_else(bad)?;
    if status != STATUS_OK {
        return Err(Failure::with(format!("RESERVE: status {status}"), json!({ "status": status })));
    }
    let reservation = wire::field(&answer, 3).ok_or_else(bad)?;
    let limit = wire::field(&answer, 4);
    let addrs = wire::fields(reservation).ok_or_else(bad)?.into_iter().filter(|(n, _)| *n == 2);
    let addrs: Vec<String> =
        addrs.map(|(_, b)| Multiaddr::try_from(b.to_vec()).map(|a| a.to_string())).collect::<Result<_, _>>()?;
    let mut reply = json!({
        "status": status, "expire": wire::number(reservation, 1), "addrs": addrs, "voucher": "absent",
        "limitSeconds": limit.map(|l| wire::number(l, 1).unwrap_or(0)),
        "limitBytes": limit.map(|l| wire::number(l, 2).unwrap_or(0)),
    });
    if let Some(voucher) = wire::field(reservation, 3) {
        reply["voucher"] = json!("rejected");
        match check_voucher(voucher, relay, h.id) {
            Ok(expire) => {
                reply["voucher"] = json!("verified");
                reply["voucherExpire"] = json!(expire);
            }
            Err(f) => eprintln!("voucher of {relay}: {}", f.text),
        }
    }
    Ok(reply)
}

/// A voucher counts when its relay signed it, for us; its expiry.
fn check_voucher(bytes: &[u8], relay: PeerId, own: PeerId) -> Result<Option<u64>, Failure> {
    let envelope = SignedEnvelope::from_protobuf_encoding(bytes)?;
    let (payload, key) = envelope.payload_and_signing_key(VOUCHER_DOMAIN.into(), &VOUCHER_TYPE)?;
    let id = |n| wire::field(payload, n).and_then(|b| PeerId::from_bytes(b).ok());
    match key.to_peer_id() == relay && id(1) == Some(relay) && id(2) == Some(own) {
        true => Ok(wire::number(payload, 3)),
        false => Err(Failure::new(format!("signed by {}, about {:?} and {:?}", key.to_peer_id(), id(1), id(2)))),
    }
}

pub async fn nat(h: &Host) -> Reply {
    h.with(|s| {
        let v1 = s.swarm.behaviour().v1.as_ref().map(|v1| match v1.nat_status() {
            autonat::NatStatus::Public(_) => "public",
            autonat::NatStatus::Private => "private",
            autonat::NatStatus::Unknown => "unknown",
        });
        Ok(json!({ "reachability": v1, "addrs": s.nat.verdicts.values().collect::<Vec<_>>() }))
    })
    .await?
}

pub async fn addrs(h: &Host) -> Reply {
    h.with(|s| {
        let all = s.swarm.listeners().chain(s.swarm.external_addresses()).map(|a| a.to_string());
        Ok(json!({ "addrs": all.collect::<Vec<_>>() }))
    })
    .await?
}

pub async fn punches(h: &Host) -> Reply {
    h.with(|s| Ok(json!({ "punches": s.nat.punches }))).await?
}

/// What identify and its pushes taught of a peer.
pub async fn known(h: &Host, q: &Request) -> Reply {
    let peer: PeerId = q.text("peer").parse()?;
    let info = h.with(move |s| s.identified.get(&peer).cloned()).await?;
    let info = info.ok_or_else(|| Failure::new(format!("nothing known of {peer}")))?;
    Ok(json!({
        "addrs": info.listen_addrs.iter().map(|a| a.to_string()).collect::<Vec<_>>(),
        "protocols": info.protocols.iter().map(|p| p.to_string()).collect::<Vec<_>>(),
    }))
}

/// Announces one address more and pushes that to everybody.
pub async fn announce(h: &Host, q: &Request) -> Reply {
    let addr: Multiaddr = q.text("addr").parse()?;
    let start = Instant::now();
    h.with(move |s| {
        s.swarm.add_external_address(addr);
        let peers: Vec<PeerId> = s.swarm.connected_peers().copied().collect();
        s.swarm.behaviour_mut().identify.push(peers);
    })
    .await?;
    Ok(json!({ "ms": since(start) }))
}
